//! Helpers: what FTP and TFTP control connections say about data connections to come.

use crate::key::Family;
use flow::U128;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// Bytes of a control message that are looked at.
const MESSAGE_MAX: usize = 128;

/// Who opens the data connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// The server (`PORT`, `EPRT`).
    Active,
    /// The client (replies 227 and 229).
    Passive,
}

/// What an FTP message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    /// Nothing that matters here.
    Other,
    /// It should announce a data connection and does not.
    Invalid,
    Announce(Announce),
}

/// A data connection to come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Announce {
    pub mode: Mode,
    /// Address, and where in the message it stands.
    pub address: Option<(U128, Range<usize>)>,
    pub port: u16,
}

/// Reads an FTP control message (RFC 959, RFC 2428).
pub(crate) fn read_ftp(payload: &[u8], family: Family) -> Message {
    let message = &payload[..payload.len().min(MESSAGE_MAX)];
    let begins = |word: &[u8]| message.get(..word.len()).is_some_and(|m| m.eq_ignore_ascii_case(word));
    let (is_active, is_passive) = match family {
        Family::V4 => (begins(b"PORT"), begins(b"227")),
        Family::V6 => (begins(b"EPRT"), contains(message, b"EXTENDED PASSIVE")),
    };
    let mode = match (is_active, is_passive) {
        (true, _) => Mode::Active,
        (_, true) => Mode::Passive,
        _ => return Message::Other,
    };
    let announce = match (family, mode) {
        (Family::V4, _) => read_v4(message, mode),
        (Family::V6, Mode::Active) => read_eprt(message),
        (Family::V6, Mode::Passive) => read_epsv(message),
    };
    announce.map_or(Message::Invalid, Message::Announce)
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word))
}

/// Reads digits from `at`: their value, and where they end.
fn number(text: &[u8], at: usize, max: u32) -> Option<(u32, usize)> {
    let digits = text.get(at..)?.iter().take_while(|b| b.is_ascii_digit()).count();
    let text = text.get(at..at + digits)?;
    let value: u32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (value <= max).then_some((value, at + digits))
}

fn find(text: &[u8], from: usize, f: impl Fn(&u8) -> bool) -> Option<usize> {
    text.get(from..)?.iter().position(f).map(|i| from + i)
}

/// `h1,h2,h3,h4,p1,p2`, somewhere behind a space.
fn read_v4(text: &[u8], mode: Mode) -> Option<Announce> {
    let space = find(text, 3, |b| *b == b' ')?;
    let start = find(text, space, u8::is_ascii_digit)?;
    let (mut at, mut bytes, mut end) = (start, [0u8; 6], start);
    for (i, byte) in bytes.iter_mut().enumerate() {
        let (value, next) = number(text, at, 255)?;
        *byte = value as u8;
        if i == 3 {
            end = next;
        }
        if i < 5 && text.get(next) != Some(&b',') {
            return None;
        }
        at = next + 1;
    }
    let [a, b, c, d, high, low] = bytes;
    let address = U128 { hi: 0, lo: u64::from(u32::from_be_bytes([a, b, c, d])) };
    let port = u16::from_be_bytes([high, low]);
    Some(Announce { mode, address: Some((address, start..end)), port })
}

/// `EPRT |2|address|port|` with any delimiter.
fn read_eprt(text: &[u8]) -> Option<Announce> {
    let af = find(text, 4, u8::is_ascii_digit)?;
    if text.get(af) != Some(&b'2') || text.get(af + 1)?.is_ascii_digit() {
        return None;
    }
    let start = af + 2;
    let end = find(text, start, |b| !(b.is_ascii_hexdigit() || matches!(b, b':' | b'.')))?;
    let address: Ipv6Addr = std::str::from_utf8(text.get(start..end)?).ok()?.parse().ok()?;
    let (port, _) = number(text, end + 1, u32::from(u16::MAX))?;
    let address = Some((u128::from(address).into(), start..end));
    Some(Announce { mode: Mode::Active, address, port: port as u16 })
}

/// `(|||port|)` with any delimiter.
fn read_epsv(text: &[u8]) -> Option<Announce> {
    let open = find(text, 0, |b| *b == b'(')?;
    let start = find(text, open, u8::is_ascii_digit)?;
    let (port, _) = number(text, start, u32::from(u16::MAX))?;
    Some(Announce { mode: Mode::Passive, address: None, port: port as u16 })
}

/// An address as an FTP message has it.
pub(crate) fn ftp_address(address: U128, family: Family) -> String {
    match family {
        Family::V4 => Ipv4Addr::from(address.lo as u32).to_string().replace('.', ","),
        Family::V6 => Ipv6Addr::from(u128::from(address)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn announcements() {
        let Message::Announce(a) = read_ftp(b"PORT 10,1,1,1,200,201\r\n", Family::V4) else { panic!() };
        assert_eq!((a.mode, a.port), (Mode::Active, 200 * 256 + 201));
        assert_eq!(a.address, Some((U128 { hi: 0, lo: 0x0a01_0101 }, 5..13)));
        let text = b"227 Entering Passive Mode (10,1,1,2,0,21).\r\n";
        let Message::Announce(a) = read_ftp(text, Family::V4) else { panic!() };
        assert_eq!((a.mode, a.port), (Mode::Passive, 21));
        let Message::Announce(a) = read_ftp(b"EPRT |2|fc00::1|5282|\r\n", Family::V6) else { panic!() };
        assert_eq!((a.mode, a.port, a.address.unwrap().1), (Mode::Active, 5282, 8..15));
        let text = b"229 Entering Extended Passive Mode (|||6446|)\r\n";
        let Message::Announce(a) = read_ftp(text, Family::V6) else { panic!() };
        assert_eq!((a.mode, a.port, a.address), (Mode::Passive, 6446, None));
    }

    #[test]
    fn what_announces_nothing() {
        assert_eq!(read_ftp(b"USER x\r\n", Family::V4), Message::Other);
        assert_eq!(read_ftp(b"", Family::V4), Message::Other);
        assert_eq!(read_ftp(b"PORT 1,2,3,4,5\r\n", Family::V4), Message::Invalid);
        assert_eq!(read_ftp(b"PORT 1,2,3,400,5,6\r\n", Family::V4), Message::Invalid);
        assert_eq!(read_ftp(b"EPRT |1|1.2.3.4|5|\r\n", Family::V6), Message::Invalid);
    }

    proptest! {
        #[test]
        fn any_payload_is_read(head in prop::sample::select(vec!["PORT ", "227 (", "EPRT |2|", "extended passive ("]),
                               rest in "[0-9,.:|() a-f]{0,140}") {
            crate::fuzz::alg(format!("{head}{rest}").as_bytes());
        }
    }
}
