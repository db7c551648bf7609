//! The header of every message, and framing by it.

/// The first 8 bytes of every OpenFlow message.
///
/// ```text
///  0        1        2               4                               8
/// | version|  type  |    length     |              xid              |
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The version's wire number, which need not be one that this crate knows.
    pub version: u8,
    /// `OFPT_*`
    pub msg_type: u8,
    /// Length of the whole message in bytes.
    pub length: u16,
    /// Transaction id: replies carry that of their request.
    pub xid: u32,
}

impl Header {
    /// Bytes in a header.
    pub const LEN: usize = 8;

    /// Reads the header at the start of `bytes`, if all of it is there.
    #[must_use]
    pub const fn parse(bytes: &[u8]) -> Option<Self> {
        let Some(&[version, msg_type, l0, l1, x0, x1, x2, x3]) = bytes.first_chunk::<{ Self::LEN }>() else {
            return None;
        };
        Some(Self {
            version,
            msg_type,
            length: u16::from_be_bytes([l0, l1]),
            xid: u32::from_be_bytes([x0, x1, x2, x3]),
        })
    }
}

/// What stands at the start of a stream of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// A whole message of this many bytes (8 to 65,535).
    Whole(usize),
    /// The start of a message; more bytes are needed.
    Partial,
    /// A header that claims less than its own length: the stream cannot be read any further.
    TooShort(u16),
}

/// Finds the first message in what was read from a stream.
#[must_use]
pub const fn frame(bytes: &[u8]) -> Frame {
    let Some(header) = Header::parse(bytes) else { return Frame::Partial };
    let length = header.length as usize;
    if length < Header::LEN {
        Frame::TooShort(header.length)
    } else if bytes.len() < length {
        Frame::Partial
    } else {
        Frame::Whole(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing() {
        let hello = [1, 0, 0, 8, 0, 0, 0, 1, 0xff];
        assert_eq!(frame(&hello), Frame::Whole(8));
        assert_eq!(frame(&hello[..7]), Frame::Partial);
        assert_eq!(frame(&[1, 0, 0, 9, 0, 0, 0, 1]), Frame::Partial);
        assert_eq!(frame(&[1, 0, 0, 7, 0, 0, 0, 1, 2, 3]), Frame::TooShort(7));
        assert_eq!(frame(&[]), Frame::Partial);
    }
}
