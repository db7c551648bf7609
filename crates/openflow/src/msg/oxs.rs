//! OXS: the statistics of OpenFlow 1.5 flows.
//!
//! ```text
//!  0               2               4               6      7      8
//! |   reserved    |    length     |     class     |field |len   | value ...   | ...
//! ```

use crate::OfError;
use crate::elapsed::Elapsed;
use crate::wire::{PutBytes, Reader, Truncated, len16};

/// `OFPXSC_OPENFLOW_BASIC`
const BASIC: u16 = 0x8002;
/// `OFPXSC_EXPERIMENTER`
const EXPERIMENTER: u16 = 0xffff;

/// Numbers of fields, with the length of their values.
mod field {
    pub const DURATION: (u8, u8) = (0, 8);
    pub const IDLE_TIME: (u8, u8) = (1, 8);
    pub const FLOW_COUNT: (u8, u8) = (3, 4);
    pub const PACKET_COUNT: (u8, u8) = (4, 8);
    pub const BYTE_COUNT: (u8, u8) = (5, 8);
}

/// The statistics that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Oxs {
    pub duration: Option<Elapsed>,
    /// Seconds since the last packet.
    pub idle_sec: Option<u32>,
    pub packet_count: Option<u64>,
    pub byte_count: Option<u64>,
    pub flow_count: Option<u32>,
}

fn bad_len(_: Truncated) -> OfError {
    OfError::OfpbmcBadLen
}

impl Oxs {
    /// Takes the statistics and their padding off `r`. Fields that are not known are skipped.
    pub(crate) fn take(r: &mut Reader<'_>) -> Result<Self, OfError> {
        let mut head = *r;
        head.skip(2).map_err(bad_len)?;
        let len = usize::from(head.u16().map_err(bad_len)?);
        if len < 4 {
            return Err(OfError::OfpbmcBadLen);
        }
        let padded = r.take(len.next_multiple_of(8)).map_err(bad_len)?;
        let mut fields = Reader::new(padded.get(4..len).unwrap_or_default());
        let mut oxs = Self::default();
        while !fields.is_empty() {
            oxs.take_field(&mut fields).map_err(bad_len)?;
        }
        Ok(oxs)
    }

    fn take_field(&mut self, r: &mut Reader<'_>) -> Result<(), Truncated> {
        let class = r.u16()?;
        // The lowest bit is reserved, as OXM's mask bit is in its place.
        let [number_and_bit, len] = r.array()?;
        if class == EXPERIMENTER && len < 4 {
            return Err(Truncated);
        }
        let mut value = r.sub(len.into())?;
        if class != BASIC {
            return Ok(());
        }
        match (number_and_bit, len) {
            (n, l) if (n, l) == header(field::DURATION) => {
                self.duration = Elapsed::from_wire(value.u32()?, value.u32()?);
            }
            (n, l) if (n, l) == header(field::IDLE_TIME) => self.idle_sec = Some(value.u32()?),
            (n, l) if (n, l) == header(field::FLOW_COUNT) => self.flow_count = Some(value.u32()?),
            (n, l) if (n, l) == header(field::PACKET_COUNT) => self.packet_count = Some(value.u64()?),
            (n, l) if (n, l) == header(field::BYTE_COUNT) => self.byte_count = Some(value.u64()?),
            _ => (),
        }
        Ok(())
    }

    /// Appends the statistics that there are, padded to 8 bytes.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_zeros(4);
        if let Some(Elapsed { sec, nsec }) = self.duration {
            put_header(out, field::DURATION);
            out.put_u32(sec);
            out.put_u32(nsec);
        }
        if let Some(sec) = self.idle_sec {
            put_header(out, field::IDLE_TIME);
            out.put_u32(sec);
            out.put_u32(0);
        }
        if let Some(n) = self.packet_count {
            put_header(out, field::PACKET_COUNT);
            out.put_u64(n);
        }
        if let Some(n) = self.byte_count {
            put_header(out, field::BYTE_COUNT);
            out.put_u64(n);
        }
        if let Some(n) = self.flow_count {
            put_header(out, field::FLOW_COUNT);
            out.put_u32(n);
        }
        let len = len16(out.len() - start);
        out.set_u16(start + 2, len);
        out.pad_to_8(start);
    }
}

/// The last two bytes of a field's header.
const fn header((number, len): (u8, u8)) -> (u8, u8) {
    (number << 1, len)
}

fn put_header(out: &mut Vec<u8>, field: (u8, u8)) {
    let (number, len) = header(field);
    out.put_u16(BASIC);
    out.put_u8(number);
    out.put_u8(len);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex::bytes;

    #[test]
    fn statistics_come_back() {
        let oxs = Oxs {
            duration: Some(Elapsed { sec: 1, nsec: 2 }),
            idle_sec: Some(3),
            packet_count: Some(4),
            byte_count: Some(5),
            flow_count: Some(6),
        };
        let mut out = Vec::new();
        oxs.put(&mut out);
        assert_eq!(out.len() % 8, 0);
        assert_eq!(Oxs::take(&mut Reader::new(&out)), Ok(oxs));
        let mut out = Vec::new();
        Oxs::default().put(&mut out);
        assert_eq!(out, bytes("0000 0004 00000000"));
        assert_eq!(Oxs::take(&mut Reader::new(&out)), Ok(Oxs::default()));
    }

    #[test]
    fn unknown_fields_are_skipped_and_bad_lengths_refused() {
        let take = |hex: &str| Oxs::take(&mut Reader::new(&bytes(hex)));
        let packets = Oxs { packet_count: Some(7), ..Oxs::default() };
        // An experimenter's field, the one that is known, a field without a value.
        let fields = "0000 0020 ffff 00 08 00002320 00000000 8002 0808 0000000000000007 0000 0000";
        assert_eq!(take(fields), Ok(packets));
        assert_eq!(take("0000 0003 00000000"), Err(OfError::OfpbmcBadLen));
        assert_eq!(take("0000 0008 8002 0808"), Err(OfError::OfpbmcBadLen));
        assert_eq!(take("0000 0008 ffff 0003"), Err(OfError::OfpbmcBadLen));
        assert_eq!(take("0000 0010 00000000"), Err(OfError::OfpbmcBadLen));
    }
}
