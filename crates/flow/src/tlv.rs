//! Tunnel options: which Geneve option is which `tun_metadata<i>`, and where its bytes lie in the key.
//!
//! A datapath key holds the options as they came ("raw"). A switch key holds each known option at the
//! place that the bridge's [`TlvTable`] gave it, so that it can be masked. `NXT_TLV_TABLE_MOD` fills the
//! table (ovs-fields(7), "Geneve Fields").

use crate::key::{TUN_METADATA_LEN, Tunnel, tun_flags};
use crate::value::Value;

/// `tun_metadata<i>` fields.
pub const TLV_FIELDS: usize = 64;
/// Longest option body, in bytes.
pub const TLV_LEN_MAX: usize = 124;
/// Bit of an option's type that says "drop the packet if you do not know me".
pub const GENEVE_CRITICAL: u8 = 0x80;
const OPT_HEADER: usize = 4;

/// One mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlvSlot {
    pub class: u16,
    pub kind: u8,
    /// Length of the option body, in bytes.
    pub len: u8,
    /// Bit `w` set: bytes `4w..4w+4` of [`Tunnel::metadata`] are this option's, in ascending order.
    words: u64,
}

/// Why the table cannot be changed as asked. `NXTTMFC_*` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TlvError {
    #[error("NXTTMFC_BAD_FIELD_IDX")]
    BadFieldIndex,
    #[error("NXTTMFC_BAD_OPT_LEN")]
    BadOptionLen,
    #[error("NXTTMFC_ALREADY_MAPPED")]
    AlreadyMapped,
    #[error("NXTTMFC_DUP_ENTRY")]
    DupEntry,
    #[error("NXTTMFC_TABLE_FULL")]
    TableFull,
}

/// Raw options that cannot be understood: truncated, of another length than mapped, or critical and
/// unknown. A packet that carries them is to be dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("invalid Geneve options")]
pub struct BadOptions;

/// The mapping of a bridge. Plain data: copy it, change the copy, publish it. To save it, save what
/// [`TlvTable::iter`] gives; where the bytes lie need not stay the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlvTable {
    slots: [Option<TlvSlot>; TLV_FIELDS],
}

impl Default for TlvTable {
    fn default() -> Self {
        TlvTable::EMPTY
    }
}

impl TlvTable {
    /// Maps nothing.
    pub const EMPTY: TlvTable = TlvTable { slots: [None; TLV_FIELDS] };

    pub fn get(&self, index: usize) -> Option<&TlvSlot> {
        self.slots.get(index)?.as_ref()
    }

    /// Mapped fields, by index.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &TlvSlot)> {
        self.slots.iter().enumerate().filter_map(|(i, s)| Some((i, s.as_ref()?)))
    }

    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    /// Maps option `class`/`kind`, whose body has `len` bytes (a multiple of 4, 0 to 124), to
    /// `tun_metadata<index>`.
    pub fn add(&mut self, index: usize, class: u16, kind: u8, len: u8) -> Result<(), TlvError> {
        if !len.is_multiple_of(4) {
            return Err(TlvError::BadOptionLen);
        }
        if self.iter().any(|(i, s)| i != index && (s.class, s.kind) == (class, kind)) {
            return Err(if self.get(index).is_some() { TlvError::AlreadyMapped } else { TlvError::DupEntry });
        }
        self.allocate(index, class, kind, len)
    }

    /// As [`TlvTable::add`] for any length, without a look at what `class` and `kind` others have.
    pub(crate) fn allocate(&mut self, index: usize, class: u16, kind: u8, len: u8) -> Result<(), TlvError> {
        if usize::from(len) > TLV_LEN_MAX {
            return Err(TlvError::BadOptionLen);
        }
        let taken = self.iter().fold(0, |w, (_, s)| w | s.words);
        let slot = self.slots.get_mut(index).ok_or(TlvError::BadFieldIndex)?;
        if slot.is_some() {
            return Err(TlvError::AlreadyMapped);
        }
        let mut words = 0u64;
        for _ in 0..len.div_ceil(4) {
            let free = !(taken | words);
            if free == 0 {
                return Err(TlvError::TableFull);
            }
            words |= free & free.wrapping_neg();
        }
        *slot = Some(TlvSlot { class, kind, len, words });
        Ok(())
    }

    pub fn remove(&mut self, index: usize) {
        if let Some(s) = self.slots.get_mut(index) {
            *s = None;
        }
    }

    /// The value of `tun_metadata<index>` in `tunnel` (of a switch key or mask): as many bytes as the
    /// option has, all zeros when it is not there. `None` if the table does not map it.
    pub fn read(&self, tunnel: &Tunnel, index: usize) -> Option<Value> {
        let slot = self.get(index)?;
        let mut v = Value::zero(usize::from(slot.len));
        slot.load(tunnel, v.as_mut_bytes());
        Some(v)
    }

    /// Puts `value` (any length; the low bytes count) into `tun_metadata<index>` and marks it present.
    /// Returns false, and does nothing, if the table does not map it.
    pub fn write(&self, tunnel: &mut Tunnel, index: usize, value: &Value) -> bool {
        let Some(slot) = self.get(index) else { return false };
        slot.store(tunnel, value.resized(usize::from(slot.len)).as_bytes());
        tunnel.metadata_present |= 1 << index;
        true
    }

    /// Takes `tun_metadata<index>` away.
    pub fn delete(&self, tunnel: &mut Tunnel, index: usize) {
        if let Some(slot) = self.get(index) {
            slot.store(tunnel, &[0; TLV_LEN_MAX][..usize::from(slot.len)]);
            tunnel.metadata_present &= !(1 << index);
        }
    }

    fn find(&self, class: u16, kind: u8) -> Option<(usize, &TlvSlot)> {
        self.iter().find(|(_, s)| s.class == class && s.kind == kind)
    }

    /// `src` with its raw options at their mapped places. `key` is the datapath key's tunnel, whose
    /// options tell how to read those of `src`, which is `key` itself or a mask for it.
    pub fn from_raw(&self, key: &Tunnel, src: &Tunnel) -> Result<Tunnel, BadOptions> {
        let mut dst = src.clone();
        dst.flags &= !tun_flags::UDPIF;
        dst.metadata_present = 0;
        dst.metadata = [0; TUN_METADATA_LEN];
        let end = raw_len(key);
        let mut at = 0;
        while at < end {
            let opt = RawOption::parse(&key.metadata[..end], at).ok_or(BadOptions)?;
            let body = &src.metadata[at + OPT_HEADER..opt.end];
            match self.find(opt.class, opt.kind) {
                Some((i, slot)) if usize::from(slot.len) == body.len() => {
                    slot.store(&mut dst, body);
                    dst.metadata_present |= 1 << i;
                }
                Some(_) => return Err(BadOptions),
                None if opt.kind & GENEVE_CRITICAL != 0 => return Err(BadOptions),
                None => {}
            }
            at = opt.end;
        }
        Ok(dst)
    }

    /// Appends the options of `tunnel` (of a switch key) as they go on the wire. Returns whether one of
    /// them is critical.
    pub fn to_raw(&self, tunnel: &Tunnel, out: &mut Vec<u8>) -> bool {
        let mut critical = false;
        for (_, slot) in self.iter().filter(|(i, _)| tunnel.metadata_present >> i & 1 != 0) {
            out.extend(slot.class.to_be_bytes());
            out.extend([slot.kind, slot.len / 4]);
            let mut body = [0; TLV_LEN_MAX];
            let body = &mut body[..usize::from(slot.len)];
            slot.load(tunnel, body);
            out.extend(&*body);
            critical |= slot.kind & GENEVE_CRITICAL != 0;
        }
        critical
    }

    /// The mask over raw options `key_raw` that says what `mask` (of a switch key) says. Headers are
    /// matched exactly, unknown options not at all.
    pub fn mask_to_raw(&self, mask: &Tunnel, key_raw: &[u8]) -> Vec<u8> {
        let mut out = key_raw.to_vec();
        let mut at = 0;
        while let Some(opt) = RawOption::parse(key_raw, at) {
            let (header, body) = out[at..opt.end].split_at_mut(OPT_HEADER);
            header.copy_from_slice(&[0xff, 0xff, 0xff, 0x1f]);
            body.fill(0);
            if let Some((_, slot)) = self.find(opt.class, opt.kind) {
                slot.load(mask, body);
            }
            at = opt.end;
        }
        out
    }
}

/// Bytes of raw options in a datapath key.
fn raw_len(t: &Tunnel) -> usize {
    usize::try_from(t.metadata_present).map_or(TUN_METADATA_LEN, |n| n.min(TUN_METADATA_LEN))
}

struct RawOption {
    class: u16,
    kind: u8,
    end: usize,
}

impl RawOption {
    /// The option at `at` (RFC 8926 section 3.5); `None` if it is cut short.
    fn parse(raw: &[u8], at: usize) -> Option<RawOption> {
        let h = raw.get(at..at + OPT_HEADER)?;
        let end = at + OPT_HEADER + 4 * usize::from(h[3] & 0x1f);
        (end <= raw.len()).then(|| RawOption { class: u16::from_be_bytes([h[0], h[1]]), kind: h[2], end })
    }
}

impl TlvSlot {
    fn word_offsets(&self) -> impl Iterator<Item = usize> {
        let words = self.words;
        (0..64).filter(move |w| words >> w & 1 != 0).map(|w| w * 4)
    }

    fn load(&self, t: &Tunnel, out: &mut [u8]) {
        for (o, chunk) in self.word_offsets().zip(out.chunks_mut(4)) {
            chunk.copy_from_slice(&t.metadata[o..o + chunk.len()]);
        }
    }

    fn store(&self, t: &mut Tunnel, body: &[u8]) {
        for (o, chunk) in self.word_offsets().zip(body.chunks(4)) {
            t.metadata[o..o + chunk.len()].copy_from_slice(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Flow;

    #[test]
    fn add_errors() {
        let mut t = TlvTable::default();
        assert_eq!(t.add(0, 0xffff, 0, 4), Ok(()));
        assert_eq!(t.add(0, 0xffff, 1, 4), Err(TlvError::AlreadyMapped));
        assert_eq!(t.add(1, 0xffff, 0, 4), Err(TlvError::DupEntry));
        assert_eq!(t.add(1, 0xffff, 1, 3), Err(TlvError::BadOptionLen));
        assert_eq!(t.add(1, 0xffff, 1, 128), Err(TlvError::BadOptionLen));
        assert_eq!(t.add(64, 0xffff, 1, 4), Err(TlvError::BadFieldIndex));
        assert_eq!(t.add(1, 0xffff, 1, 124), Ok(()));
        assert_eq!(t.add(2, 0xffff, 2, 124), Ok(()));
        assert_eq!(t.add(3, 0xffff, 3, 8), Err(TlvError::TableFull));
        assert_eq!(t.add(3, 0xffff, 3, 4), Ok(()));
        assert_eq!(t.add(4, 0xffff, 4, 0), Ok(()), "one that is just there or not");
        // A hole in the middle is used though no run is long enough.
        t.remove(0);
        t.remove(3);
        assert_eq!(t.add(3, 0xffff, 3, 8), Ok(()));
    }

    #[test]
    fn raw_and_back() {
        let mut t = TlvTable::default();
        t.add(5, 0x0102, 0x80, 4).unwrap();
        t.add(9, 0x0102, 3, 8).unwrap();
        let raw =
            [1, 2, 3, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 1, 1, 0, 0, 0, 0, 1, 2, 0x80, 1, 0xa, 0xb, 0xc, 0xd];
        let mut key = Flow::ZERO.tunnel;
        key.flags = tun_flags::UDPIF | tun_flags::KEY;
        key.metadata[..raw.len()].copy_from_slice(&raw);
        key.metadata_present = raw.len() as u64;
        let sw = t.from_raw(&key, &key).unwrap();
        assert_eq!(sw.flags, tun_flags::KEY);
        assert_eq!(sw.metadata_present, 1 << 5 | 1 << 9);
        assert_eq!(t.read(&sw, 5), Some(Value::from(0x0a0b_0c0du32)));
        assert_eq!(t.read(&sw, 9), Some(Value::from(0x0102_0304_0506_0708u64)));
        assert_eq!(t.read(&sw, 1), None);
        let mut out = vec![];
        assert!(t.to_raw(&sw, &mut out));
        assert_eq!(out, [&raw[20..], &raw[..12]].concat());

        let mut mask = Flow::ZERO.tunnel;
        t.write(&mut mask, 5, &Value::ones(4));
        let m = t.mask_to_raw(&mask, &raw);
        assert_eq!(m[..4], [0xff, 0xff, 0xff, 0x1f]);
        assert_eq!(m[4..12], [0; 8]);
        assert_eq!(m[24..], [0xff; 4]);

        key.metadata_present -= 1;
        assert_eq!(t.from_raw(&key, &key), Err(BadOptions));
        key.metadata_present += 1;
        t.remove(5);
        assert_eq!(t.from_raw(&key, &key), Err(BadOptions), "critical and unknown");
    }
}
