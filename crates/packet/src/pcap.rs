//! The classic capture file format of libpcap (draft-ietf-opsawg-pcap), as bytes.

/// Link type of Ethernet, the only one written.
pub const LINKTYPE_ETHERNET: u32 = 1;
const MAGIC_US: u32 = 0xa1b2_c3d4;
const MAGIC_NS: u32 = 0xa1b2_3c4d;
pub const FILE_HEADER_LEN: usize = 24;
pub const RECORD_HEADER_LEN: usize = 16;
/// Longest record that is believed.
pub const RECORD_MAX: usize = 262_144;

/// A file's first bytes: version 2.4, times in microseconds, little-endian.
pub fn file_header() -> [u8; FILE_HEADER_LEN] {
    let mut h = [0; FILE_HEADER_LEN];
    h[..4].copy_from_slice(&MAGIC_US.to_le_bytes());
    h[4..6].copy_from_slice(&2u16.to_le_bytes());
    h[6..8].copy_from_slice(&4u16.to_le_bytes());
    h[16..20].copy_from_slice(&(RECORD_MAX as u32).to_le_bytes());
    h[20..].copy_from_slice(&LINKTYPE_ETHERNET.to_le_bytes());
    h
}

/// What goes before a frame of `len` bytes seen at `time_us` (microseconds since 1970).
pub fn record_header(time_us: u64, len: usize) -> [u8; RECORD_HEADER_LEN] {
    let mut h = [0; RECORD_HEADER_LEN];
    let words = [(time_us / 1_000_000) as u32, (time_us % 1_000_000) as u32, len as u32, len as u32];
    for (slot, w) in h.chunks_exact_mut(4).zip(words) {
        slot.copy_from_slice(&w.to_le_bytes());
    }
    h
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PcapError {
    #[error("not a pcap file")]
    Magic,
    #[error("pcap file is cut short")]
    Truncated,
    #[error("pcap record of {0} bytes is too long")]
    TooLong(usize),
}

/// One captured frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Microseconds since 1970.
    pub time_us: u64,
    /// Length on the wire; the capture may hold less.
    pub original_len: u32,
    pub frame: &'a [u8],
}

/// The records of a capture file. Ends after the first error.
pub struct Reader<'a> {
    rest: &'a [u8],
    big_endian: bool,
    nanoseconds: bool,
    pub linktype: u32,
}

impl<'a> Reader<'a> {
    /// Reads the file's header, of either byte order and either time unit.
    pub fn new(file: &'a [u8]) -> Result<Self, PcapError> {
        let (h, rest) = file.split_first_chunk::<FILE_HEADER_LEN>().ok_or(PcapError::Truncated)?;
        let le = word(h, 0, false);
        let (magic, big_endian) = match le {
            MAGIC_US | MAGIC_NS => (le, false),
            _ => (le.swap_bytes(), true),
        };
        if magic != MAGIC_US && magic != MAGIC_NS {
            return Err(PcapError::Magic);
        }
        let linktype = word(h, 20, big_endian);
        Ok(Reader { rest, big_endian, nanoseconds: magic == MAGIC_NS, linktype })
    }

    fn read(&mut self) -> Result<Record<'a>, PcapError> {
        let (h, rest) = self.rest.split_first_chunk::<RECORD_HEADER_LEN>().ok_or(PcapError::Truncated)?;
        let at = |i| word(h, i, self.big_endian);
        let len = at(8) as usize;
        if len > RECORD_MAX {
            return Err(PcapError::TooLong(len));
        }
        let (frame, rest) = rest.split_at_checked(len).ok_or(PcapError::Truncated)?;
        let fraction_us = if self.nanoseconds { at(4) / 1000 } else { at(4) };
        let time_us = u64::from(at(0)) * 1_000_000 + u64::from(fraction_us);
        let record = Record { time_us, original_len: at(12), frame };
        self.rest = rest;
        Ok(record)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Record<'a>, PcapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let r = self.read();
        if r.is_err() {
            self.rest = &[];
        }
        Some(r)
    }
}

fn word<const N: usize>(h: &[u8; N], at: usize, big_endian: bool) -> u32 {
    let b = [h[at], h[at + 1], h[at + 2], h[at + 3]];
    if big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_records_are_read_back() {
        let mut file = file_header().to_vec();
        for (t, frame) in [(1_000_001, &b"abc"[..]), (2, b"")] {
            file.extend_from_slice(&record_header(t, frame.len()));
            file.extend_from_slice(frame);
        }
        let got: Vec<_> = Reader::new(&file).unwrap().map(|r| r.unwrap()).collect();
        let want =
            |time_us, frame: &'static [u8]| Record { time_us, original_len: frame.len() as u32, frame };
        assert_eq!(got, [want(1_000_001, b"abc"), want(2, b"")]);
        file.pop();
        let mut swapped = file.clone();
        swapped[..4].reverse();
        assert_eq!(Reader::new(&swapped).unwrap().linktype, LINKTYPE_ETHERNET.swap_bytes());
        file.truncate(FILE_HEADER_LEN + RECORD_HEADER_LEN + 2);
        let got: Vec<_> = Reader::new(&file).unwrap().collect();
        assert_eq!(got, [Err(PcapError::Truncated)]);
        assert!(matches!(Reader::new(&[0; 24]), Err(PcapError::Magic)));
    }
}
