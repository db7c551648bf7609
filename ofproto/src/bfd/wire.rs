//! BFD control packets (RFC 5880, section 4.1) in UDP and IPv4 (RFC 5881).

use flow::EthAddr;
use packet::checksum;
use std::fmt;
use std::net::Ipv4Addr;

/// UDP port of single-hop BFD (RFC 5881, section 4).
pub const PORT: u16 = 3784;
/// Where sessions send to if no other address is configured: one of Open vSwitch's own.
pub const DESTINATION: EthAddr = EthAddr([0x00, 0x23, 0x20, 0x00, 0x00, 0x01]);
/// Bytes of a control packet without authentication.
pub const LEN: usize = 24;
const VERSION: u8 = 1;
/// IPv4 precedence "internetwork control".
const TOS: u8 = 0xc0;
const TTL: u8 = 255;

/// `bfd.SessionState`, in the order in which sessions come up.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, serde::Serialize, serde::Deserialize,
)]
pub enum State {
    AdminDown,
    #[default]
    Down,
    Init,
    Up,
}

impl State {
    const ALL: [State; 4] = [State::AdminDown, State::Down, State::Init, State::Up];

    pub fn name(self) -> &'static str {
        match self {
            State::AdminDown => "admin_down",
            State::Down => "down",
            State::Init => "init",
            State::Up => "up",
        }
    }
}

/// Why a session went down last: a diagnostic code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    pub const NONE: Self = Self(0);
    pub const EXPIRED: Self = Self(1);
    pub const REMOTE_DOWN: Self = Self(3);
    pub const PATH_DOWN: Self = Self(5);
    pub const CONCATENATED_PATH_DOWN: Self = Self(6);
    pub const REVERSE_CONCATENATED_PATH_DOWN: Self = Self(8);

    pub fn name(self) -> &'static str {
        const NAMES: [&str; 9] = [
            "No Diagnostic",
            "Control Detection Time Expired",
            "Echo Function Failed",
            "Neighbor Signaled Session Down",
            "Forwarding Plane Reset",
            "Path Down",
            "Concatenated Path Down",
            "Administratively Down",
            "Reverse Concatenated Path Down",
        ];
        NAMES.get(usize::from(self.0)).copied().unwrap_or("Invalid Diagnostic")
    }

    /// Whether the other side says that traffic does not reach its destination behind it.
    pub fn is_path_down(self) -> bool {
        matches!(self, Self::PATH_DOWN | Self::CONCATENATED_PATH_DOWN | Self::REVERSE_CONCATENATED_PATH_DOWN)
    }
}

bitflags::bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Flags: u8 {
        const MULTIPOINT = 1 << 0;
        const DEMAND = 1 << 1;
        const AUTH = 1 << 2;
        const CTL = 1 << 3;
        const FINAL = 1 << 4;
        const POLL = 1 << 5;
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let names: Vec<String> = self.iter_names().map(|(name, _)| name.to_lowercase()).collect();
        f.write_str(&names.join(" "))
    }
}

/// A control packet. Intervals are in microseconds, as on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Message {
    pub diagnostic: Diagnostic,
    pub state: State,
    pub flags: Flags,
    pub multiplier: u8,
    pub my_discriminator: u32,
    pub your_discriminator: u32,
    pub min_tx_us: u32,
    pub min_rx_us: u32,
}

/// Why a control packet is not taken (RFC 5880, section 6.8.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadMessage {
    #[error("Received too-short BFD control message (only {0} bytes long, at least {LEN} required)")]
    TooShort(usize),
    #[error("Incorrect version")]
    Version,
    #[error("Authenticated control message with authentication disabled")]
    Authenticated,
    #[error("Unexpected length")]
    Length,
    #[error("Zero multiplier")]
    Multiplier,
    #[error("Unsupported multipoint flag")]
    Multipoint,
    #[error("NULL my_disc")]
    NoSender,
    #[error("Null your_disc")]
    NoReceiver,
}

impl Message {
    /// Decodes what follows the UDP header.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        let short = BadMessage::TooShort(payload.len());
        let [version, flags, multiplier, length, rest @ ..] = payload.first_chunk::<LEN>().ok_or(short)?;
        let word = |at: usize| {
            let bytes = rest.get(at * 4..).and_then(|r| r.first_chunk::<4>());
            bytes.map_or(0, |b| u32::from_be_bytes(*b))
        };
        let message = Message {
            diagnostic: Diagnostic(version & 0x1f),
            state: State::ALL[usize::from(flags >> 6)],
            flags: Flags::from_bits_truncate(flags & 0x3f),
            multiplier: *multiplier,
            my_discriminator: word(0),
            your_discriminator: word(1),
            min_tx_us: word(2),
            min_rx_us: word(3),
        };
        let wrong = [
            (version >> 5 != VERSION, BadMessage::Version),
            (message.flags.contains(Flags::AUTH), BadMessage::Authenticated),
            (usize::from(*length) < LEN, BadMessage::Length),
            (*multiplier == 0, BadMessage::Multiplier),
            (message.flags.contains(Flags::MULTIPOINT), BadMessage::Multipoint),
            (message.my_discriminator == 0, BadMessage::NoSender),
            (message.your_discriminator == 0 && message.state > State::Down, BadMessage::NoReceiver),
        ];
        match wrong.into_iter().find(|(is, _)| *is) {
            Some((_, why)) => Err(why),
            None => Ok(message),
        }
    }

    pub fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        let state = State::ALL.iter().position(|s| *s == self.state).unwrap_or(0) as u8;
        out[0] = VERSION << 5 | self.diagnostic.0 & 0x1f;
        out[1] = state << 6 | self.flags.bits();
        out[2] = self.multiplier;
        out[3] = LEN as u8;
        let words = [self.my_discriminator, self.your_discriminator, self.min_tx_us, self.min_rx_us, 0];
        for (place, word) in out[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        out
    }
}

/// Addresses of a session's packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    pub eth_src: EthAddr,
    pub eth_dst: EthAddr,
    pub ip_src: Ipv4Addr,
    pub ip_dst: Ipv4Addr,
    pub udp_src: u16,
}

/// A whole Ethernet frame around a control packet.
pub fn frame(to: &Addresses, message: &Message) -> Vec<u8> {
    let udp_len = (8 + LEN) as u16;
    let mut out = Vec::with_capacity(14 + 20 + 8 + LEN);
    out.extend_from_slice(&to.eth_dst.0);
    out.extend_from_slice(&to.eth_src.0);
    out.extend_from_slice(&0x0800u16.to_be_bytes());
    let ip = out.len();
    out.extend_from_slice(&[0x45, TOS]);
    out.extend_from_slice(&(20 + udp_len).to_be_bytes());
    out.extend_from_slice(&[0, 0, 0, 0, TTL, 17, 0, 0]);
    out.extend_from_slice(&to.ip_src.octets());
    out.extend_from_slice(&to.ip_dst.octets());
    let sum = checksum::checksum(&out[ip..]);
    out[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
    out.extend_from_slice(&to.udp_src.to_be_bytes());
    out.extend_from_slice(&PORT.to_be_bytes());
    out.extend_from_slice(&udp_len.to_be_bytes());
    // No checksum: RFC 768 lets IPv4 do without.
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&message.encode());
    out
}
