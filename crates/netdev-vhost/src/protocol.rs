//! The vhost-user protocol's numbers and messages (QEMU, `docs/interop/vhost-user.rst`): bytes to meaning.
//!
//! Numbers are in the host's byte order, for both ends run on one host.

/// `request`, `flags`, `size`.
pub const HEADER_LEN: usize = 12;
/// The longest payload that is read; a memory table of eight regions is 264 bytes, a device's config space 256.
pub const PAYLOAD_MAX: usize = 4096;
/// Descriptors with one message: one per region of a memory table.
pub const FDS_MAX: usize = 8;
const VERSION: u32 = 1;
const FLAG_REPLY: u32 = 1 << 2;
const FLAG_NEED_REPLY: u32 = 1 << 3;

/// Ring feature bits and those of network devices (VIRTIO 1.2, 5.1.3 and 6).
pub mod feature {
    pub const CSUM: u64 = 1 << 0;
    pub const GUEST_CSUM: u64 = 1 << 1;
    pub const MTU: u64 = 1 << 3;
    pub const GUEST_TSO4: u64 = 1 << 7;
    pub const GUEST_TSO6: u64 = 1 << 8;
    pub const GUEST_ECN: u64 = 1 << 9;
    pub const HOST_TSO4: u64 = 1 << 11;
    pub const HOST_TSO6: u64 = 1 << 12;
    pub const HOST_ECN: u64 = 1 << 13;
    pub const MRG_RXBUF: u64 = 1 << 15;
    pub const STATUS: u64 = 1 << 16;
    pub const CTRL_VQ: u64 = 1 << 17;
    pub const CTRL_RX: u64 = 1 << 18;
    pub const GUEST_ANNOUNCE: u64 = 1 << 21;
    pub const MQ: u64 = 1 << 22;
    pub const NOTIFY_ON_EMPTY: u64 = 1 << 24;
    /// vhost's own: writes to guest memory are logged.
    pub const LOG_ALL: u64 = 1 << 26;
    pub const ANY_LAYOUT: u64 = 1 << 27;
    pub const INDIRECT: u64 = 1 << 28;
    pub const EVENT_IDX: u64 = 1 << 29;
    pub const PROTOCOL_FEATURES: u64 = 1 << 30;
    pub const VERSION_1: u64 = 1 << 32;
    pub const RING_PACKED: u64 = 1 << 34;
    pub const IN_ORDER: u64 = 1 << 35;
    pub const GUEST_USO4: u64 = 1 << 54;
    pub const GUEST_USO6: u64 = 1 << 55;
    pub const HOST_USO: u64 = 1 << 56;

    /// What a front end may choose from.
    pub const OFFERED: u64 = CSUM
        | GUEST_CSUM
        | MTU
        | GUEST_TSO4
        | GUEST_TSO6
        | GUEST_ECN
        | HOST_TSO4
        | HOST_TSO6
        | HOST_ECN
        | MRG_RXBUF
        | STATUS
        | CTRL_VQ
        | CTRL_RX
        | GUEST_ANNOUNCE
        | MQ
        | NOTIFY_ON_EMPTY
        | LOG_ALL
        | ANY_LAYOUT
        | INDIRECT
        | EVENT_IDX
        | PROTOCOL_FEATURES
        | VERSION_1
        | RING_PACKED
        | IN_ORDER
        | GUEST_USO4
        | GUEST_USO6
        | HOST_USO;
}

/// Protocol feature bits.
pub mod protocol_feature {
    pub const MQ: u64 = 1 << 0;
    pub const LOG_SHMFD: u64 = 1 << 1;
    pub const RARP: u64 = 1 << 2;
    pub const REPLY_ACK: u64 = 1 << 3;
    pub const NET_MTU: u64 = 1 << 4;
    pub const CONFIG: u64 = 1 << 9;
    pub const INFLIGHT_SHMFD: u64 = 1 << 12;
    pub const RESET_DEVICE: u64 = 1 << 13;
    pub const CONFIGURE_MEM_SLOTS: u64 = 1 << 15;
    pub const STATUS: u64 = 1 << 16;

    pub const OFFERED: u64 = MQ
        | LOG_SHMFD
        | RARP
        | REPLY_ACK
        | NET_MTU
        | CONFIG
        | INFLIGHT_SHMFD
        | RESET_DEVICE
        | CONFIGURE_MEM_SLOTS
        | STATUS;
}

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident = $number:literal),* $(,)?) => {
        /// What the front end asks for.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Request { $($(#[$doc])* $name),* }

        impl Request {
            pub const ALL: &'static [Request] = &[$(Request::$name),*];

            pub fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Request::$name),)* _ => None }
            }
            pub fn number(self) -> u32 {
                match self { $(Request::$name => $number),* }
            }
        }
    };
}

requests! {
    GetFeatures = 1,
    SetFeatures = 2,
    SetOwner = 3,
    ResetOwner = 4,
    SetMemTable = 5,
    SetLogBase = 6,
    SetLogFd = 7,
    SetVringNum = 8,
    SetVringAddr = 9,
    SetVringBase = 10,
    GetVringBase = 11,
    SetVringKick = 12,
    SetVringCall = 13,
    SetVringErr = 14,
    GetProtocolFeatures = 15,
    SetProtocolFeatures = 16,
    GetQueueNum = 17,
    SetVringEnable = 18,
    SendRarp = 19,
    NetSetMtu = 20,
    GetConfig = 24,
    SetConfig = 25,
    GetInflightFd = 31,
    SetInflightFd = 32,
    ResetDevice = 34,
    GetMaxMemSlots = 36,
    AddMemReg = 37,
    RemMemReg = 38,
    SetStatus = 39,
    GetStatus = 40,
}

/// What makes a message, or the whole session, unusable.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProtocolError {
    #[error("version {0} of the protocol")]
    Version(u32),
    #[error("request {0} is unknown")]
    Unknown(u32),
    #[error("a payload of {0} bytes")]
    TooLong(usize),
    #[error("{0:?}: bad payload")]
    Payload(Request),
    #[error("{0:?}: wrong number of descriptors")]
    Descriptors(Request),
    #[error("{0:?}: {1}")]
    Refused(Request, String),
}

/// A message's first twelve bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub request: u32,
    pub flags: u32,
    pub size: usize,
}

impl Header {
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, ProtocolError> {
        let [request, flags, size] = [0, 4, 8].map(|at| u32_at(bytes, at).unwrap_or(0));
        let header = Header { request, flags, size: size as usize };
        match () {
            () if flags & 3 != VERSION => Err(ProtocolError::Version(flags & 3)),
            () if header.size > PAYLOAD_MAX => Err(ProtocolError::TooLong(header.size)),
            () => Ok(header),
        }
    }

    pub fn wants_reply(self) -> bool {
        self.flags & FLAG_NEED_REPLY != 0
    }

    /// A reply to this message.
    pub fn reply(self, payload: &[u8]) -> Vec<u8> {
        let words = [self.request, VERSION | FLAG_REPLY, payload.len() as u32];
        words.iter().flat_map(|w| w.to_ne_bytes()).chain(payload.iter().copied()).collect()
    }

    /// The bytes of a request, for a front end.
    pub fn request(request: Request, payload: &[u8], wants_reply: bool) -> Vec<u8> {
        let flags = VERSION | if wants_reply { FLAG_NEED_REPLY } else { 0 };
        let words = [request.number(), flags, payload.len() as u32];
        words.iter().flat_map(|w| w.to_ne_bytes()).chain(payload.iter().copied()).collect()
    }
}

pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_ne_bytes(*b))
}
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_ne_bytes(*b))
}

/// `SET_VRING_ADDR`: addresses in the front end, and in the guest where writes to the used ring are logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct RingAddresses {
    pub descriptors: u64,
    pub used: u64,
    pub available: u64,
    /// The used ring's guest address, if writes to it are to be logged.
    pub log: Option<u64>,
}

impl RingAddresses {
    /// Index of the ring, and its addresses.
    pub fn parse(p: &[u8]) -> Option<(u32, Self)> {
        let addresses = RingAddresses {
            descriptors: u64_at(p, 8)?,
            used: u64_at(p, 16)?,
            available: u64_at(p, 24)?,
            log: Some(u64_at(p, 32)?).filter(|_| u32_at(p, 4).is_some_and(|flags| flags & 1 != 0)),
        };
        Some((u32_at(p, 0)?, addresses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_requests() {
        for request in Request::ALL {
            assert_eq!(Request::from_number(request.number()), Some(*request));
        }
        assert_eq!(Request::from_number(0), None);
        assert_eq!(Request::from_number(21), None, "device IOTLB is not offered");
    }

    #[test]
    fn headers_are_read_and_refused() {
        let bytes = Header::request(Request::GetFeatures, &[1; 8], true);
        let header = Header::parse(bytes.first_chunk().expect("header")).expect("good");
        assert_eq!((header.request, header.size, header.wants_reply()), (1, 8, true));
        let reply = header.reply(&7u64.to_ne_bytes());
        let header = Header::parse(reply.first_chunk().expect("header")).expect("good");
        assert_eq!((header.flags, header.size, reply.len()), (5, 8, 20));
        let mut bad = [0; 12];
        assert_eq!(Header::parse(&bad), Err(ProtocolError::Version(0)));
        bad[4] = 1;
        bad[10] = 1;
        assert_eq!(Header::parse(&bad), Err(ProtocolError::TooLong(65536)));
    }
}
