//! Parts of fields: `reg0[0..15]`.

use crate::field::{Field, ofp};
use crate::key::{Flow, Mask};
use crate::tlv::TlvTable;
use crate::value::Value;
use std::fmt;

/// Bits `ofs..ofs + n_bits` of a field; bit 0 is the least significant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Subfield {
    pub field: Field,
    pub ofs: u16,
    pub n_bits: u16,
}

/// Why a subfield cannot be read or written. The `OFPBAC_*` code that goes with it is the variant's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SubfieldError {
    #[error("OFPBAC_BAD_SET_LEN")]
    BadSetLen,
    #[error("OFPBAC_MATCH_INCONSISTENT")]
    MatchInconsistent,
    #[error("OFPBAC_BAD_SET_ARGUMENT")]
    BadSetArgument,
}

impl Subfield {
    /// All of `field`.
    pub fn whole(field: Field) -> Subfield {
        Subfield { field, ofs: 0, n_bits: field.info().n_bits }
    }

    /// Bits `ofs..ofs + n_bits`; `None` if empty or outside the field.
    pub fn new(field: Field, ofs: u16, n_bits: u16) -> Option<Subfield> {
        let sf = Subfield { field, ofs, n_bits };
        sf.check(None).is_ok().then_some(sf)
    }

    pub fn is_whole(&self) -> bool {
        self.ofs == 0 && self.n_bits == self.field.info().n_bits
    }

    fn check(&self, matched: Option<(&Flow, &Mask)>) -> Result<(), SubfieldError> {
        let width = self.field.info().n_bits;
        if self.n_bits == 0 || self.ofs >= width || self.ofs.saturating_add(self.n_bits) > width {
            return Err(SubfieldError::BadSetLen);
        }
        match matched {
            Some((flow, mask)) if !self.field.prereqs_ok(flow, mask) => Err(SubfieldError::MatchInconsistent),
            _ => Ok(()),
        }
    }

    /// Whether it can be read in packets of which `matched` is known, if anything is.
    pub fn check_src(&self, matched: Option<(&Flow, &Mask)>) -> Result<(), SubfieldError> {
        self.check(matched)
    }

    /// Whether it can be written, as [`Subfield::check_src`].
    pub fn check_dst(&self, matched: Option<(&Flow, &Mask)>) -> Result<(), SubfieldError> {
        self.check(matched)?;
        if self.field.info().writable { Ok(()) } else { Err(SubfieldError::BadSetArgument) }
    }

    /// A field-wide mask with just these bits.
    pub fn mask(&self, tlv: &TlvTable) -> Value {
        let mut m = Value::zero(self.field.n_bytes_in(tlv));
        m.set_ones(self.ofs.into(), self.n_bits.into());
        m
    }

    /// The bits, in just enough bytes.
    pub fn read(&self, flow: &Flow, tlv: &TlvTable) -> Value {
        self.field.get_in(flow, tlv).bits(self.ofs.into(), self.n_bits.into())
    }

    /// The low 64 of the bits.
    pub fn read_u64(&self, flow: &Flow, tlv: &TlvTable) -> u64 {
        self.read(flow, tlv).to_u64()
    }

    /// Replaces the bits by the low bits of `value`.
    pub fn write(&self, flow: &mut Flow, value: &Value, tlv: &TlvTable) {
        let mut v = self.field.get_in(flow, tlv);
        v.copy_bits(self.ofs.into(), value, 0, self.n_bits.into());
        self.field.set_in(flow, &v, tlv);
    }

    pub fn write_u64(&self, flow: &mut Flow, value: u64, tlv: &TlvTable) {
        self.write(flow, &Value::from(value), tlv);
    }

    /// Makes the bits matter.
    pub fn unwildcard(&self, wc: &mut Mask, tlv: &TlvTable) {
        self.field.unwildcard_bits_in(wc, &self.mask(tlv), tlv);
    }

    /// Copies `self` to `dst`, which must be as wide, if the packet has both; makes what was looked at
    /// matter in `wc`. Returns whether it has.
    pub fn copy_to(&self, dst: &Subfield, flow: &mut Flow, wc: &mut Mask, tlv: &TlvTable) -> bool {
        if !dst.field.check_prereqs(flow, wc) || !self.field.check_prereqs(flow, wc) {
            return false;
        }
        self.unwildcard(wc, tlv);
        dst.unwildcard(wc, tlv);
        dst.write(flow, &self.read(flow, tlv), tlv);
        true
    }

    /// Parses a subfield at the beginning of `s`; returns it with the rest of `s`.
    ///
    /// `name`, `name[]`, `name[bit]` or `name[first..last]`; the name is a field's or a code point's, the
    /// latter possibly with `_W` at its end.
    pub fn parse_prefix(s: &str) -> Result<(Subfield, &str), String> {
        let name_len = s.find(['[', '-']).unwrap_or(s.len());
        let (name, rest) = s.split_at(name_len);
        let field = Field::by_nxm_name(name.strip_suffix("_W").unwrap_or(name))
            .or_else(|| Field::by_name(name))
            .ok_or_else(|| format!("{s}: unknown field `{name}'"))?;
        let width = i64::from(field.info().n_bits);
        let (start, end, rest) = match rest.strip_prefix('[') {
            None => (0, width - 1, rest),
            Some(range) => match parse_range(range) {
                Some((Some((a, b)), rest)) => (a, b, rest),
                Some((None, rest)) => (0, width - 1, rest),
                None => {
                    return Err(format!("{s}: syntax error expecting [] or [<bit>] or [<start>..<end>]"));
                }
            },
        };
        if start > end {
            return Err(format!("{s}: starting bit {start} is after ending bit {end}"));
        }
        for (which, bit) in [("starting", start), ("ending", end)] {
            if !(0..width).contains(&bit) {
                let only = format!("because field is only {width} bits wide");
                return Err(format!("{s}: {which} bit {bit} is not valid {only}"));
            }
        }
        Ok((Subfield { field, ofs: start as u16, n_bits: (end - start + 1) as u16 }, rest))
    }

    /// Parses all of `s`, as [`Subfield::parse_prefix`].
    pub fn parse(s: &str) -> Result<Subfield, String> {
        match Subfield::parse_prefix(s)? {
            (sf, "") => Ok(sf),
            _ => Err("unexpected input following field syntax".into()),
        }
    }
}

/// What follows `[`: nothing, a bit or two bits (both inclusive), then `]`.
type Range<'a> = (Option<(i64, i64)>, &'a str);

fn parse_range(s: &str) -> Option<Range<'_>> {
    let (body, rest) = s.split_once(']')?;
    if body.is_empty() {
        return Some((None, rest));
    }
    let (a, b) = body.split_once("..").unwrap_or((body, body));
    let number = |s: &str| s.trim_start().parse::<i32>().ok().map(i64::from);
    Some((Some((number(a)?, number(b)?)), rest))
}

/// The code point's name where there is one, as OVS prints actions.
impl fmt::Display for Subfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.oxm_id(ofp::NXM).map_or(self.field.name(), |o| o.name))?;
        match (self.is_whole(), self.n_bits) {
            (true, _) => f.write_str("[]"),
            (false, 1) => write!(f, "[{}]", self.ofs),
            (false, n) => write!(f, "[{}..{}]", self.ofs, self.ofs + n - 1),
        }
    }
}
