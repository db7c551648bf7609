//! Reading and writing fields of a key, and of a mask.
//!
//! The functions ending in `_in` know `tun_metadata<i>` by a bridge's [`TlvTable`]; for the others these
//! fields are zero and cannot be set.

use crate::field::{Bits, Field, Format, Maskable, Place};
use crate::key::{Flow, Mask, VLAN_CFI};
use crate::port;
use crate::tlv::TlvTable;
use crate::value::{Value, ones128};
use zerocopy::IntoBytes;

const ETH_TYPE_VLAN: u16 = 0x8100;
/// `dl_vlan` of packets without a tag in OpenFlow 1.0 (`OFP_VLAN_NONE`).
pub const DL_VLAN_NONE: u16 = 0xffff;

impl Bits {
    fn range(&self) -> std::ops::Range<usize> {
        let ofs = usize::from(self.ofs);
        ofs..ofs + usize::from(self.unit) * usize::from(self.units)
    }

    /// The storage, whole.
    fn load(&self, flow: &Flow) -> u128 {
        let b = &flow.as_bytes()[self.range()];
        match *b {
            [x] => x.into(),
            [x0, x1] => u16::from_ne_bytes([x0, x1]).into(),
            [x0, x1, x2, x3] => u32::from_ne_bytes([x0, x1, x2, x3]).into(),
            // Most of a match's fields, whenever all of them are asked for.
            _ if b.iter().fold(0, |all, x| all | x) == 0 => 0,
            _ => {
                let unit = usize::from(self.unit);
                b.chunks(unit).fold(0, |x, c| (x << (8 * unit)) | unit_value(c))
            }
        }
    }

    fn save(&self, flow: &mut Flow, mut x: u128) {
        let unit = usize::from(self.unit);
        for c in flow.as_mut_bytes()[self.range()].chunks_mut(unit).rev() {
            if cfg!(target_endian = "little") {
                c.copy_from_slice(&x.to_le_bytes()[..unit]);
            } else {
                c.copy_from_slice(&x.to_be_bytes()[16 - unit..]);
            }
            x = x.checked_shr(8 * unit as u32).unwrap_or(0);
        }
    }

    fn get(&self, flow: &Flow) -> u128 {
        (self.load(flow) & self.mask) >> self.shift
    }

    fn set(&self, flow: &mut Flow, x: u128) {
        let x = self.load(flow) & !self.mask | (x << self.shift) & self.mask;
        self.save(flow, x);
    }

    /// Whether the field shares its storage with others.
    fn is_part(&self) -> bool {
        self.mask != ones128(8 * usize::from(self.unit) * usize::from(self.units))
    }
}

fn unit_value(c: &[u8]) -> u128 {
    let fold = |x, b: &u8| (x << 8) | u128::from(*b);
    if cfg!(target_endian = "little") { c.iter().rev().fold(0, fold) } else { c.iter().fold(0, fold) }
}

impl Field {
    fn bits(self) -> Option<Bits> {
        match self.info().place {
            Place::Bits(b) | Place::Port11(b) | Place::Tci(b) | Place::Tag(b) => Some(b),
            Place::Tlv(_) => None,
        }
    }

    /// Bits of a mask value that make the match exact.
    fn exact_bits(self, b: &Bits) -> u128 {
        match self {
            _ if b.is_part() => b.mask >> b.shift,
            // The one field for which OVS takes its width, not its bytes.
            Field::Ipv6Label => ones128(self.n_bits()),
            _ => ones128(8 * self.n_bytes()) & b.mask,
        }
    }

    /// Bytes of the field's value: what the table maps for `tun_metadata<i>`, else [`Field::n_bytes`].
    pub fn n_bytes_in(self, tlv: &TlvTable) -> usize {
        let mapped = self.tlv_index().and_then(|i| tlv.get(i));
        mapped.map_or(self.n_bytes(), |s| usize::from(s.len))
    }

    /// Bits of the field's value, as [`Field::n_bytes_in`].
    pub fn n_bits_in(self, tlv: &TlvTable) -> usize {
        if self.tlv_index().is_some() { 8 * self.n_bytes_in(tlv) } else { self.n_bits() }
    }

    /// The field's value. What it means is up to the caller, who knows whether its prerequisites hold.
    pub fn get(self, flow: &Flow) -> Value {
        self.get_in(flow, &TlvTable::EMPTY)
    }

    pub fn get_in(self, flow: &Flow, tlv: &TlvTable) -> Value {
        let n = self.n_bytes();
        match self.info().place {
            Place::Bits(b) | Place::Tci(b) | Place::Tag(b) => Value::from_u128(n, b.get(flow)),
            Place::Port11(b) => Value::from(port::to_11(b.get(flow) as u32)),
            Place::Tlv(i) => {
                tlv.read(&flow.tunnel, usize::from(i)).unwrap_or_else(|| Value::zero(self.n_bytes_in(tlv)))
            }
        }
    }

    /// The low 64 bits of the field.
    pub fn get_u64(self, flow: &Flow) -> u64 {
        self.get(flow).to_u64()
    }

    /// Sets the field. Bits over its width are dropped; a value of another length counts as a number.
    ///
    /// `dl_vlan`, `dl_vlan_pcp` and `vlan_pcp` add a tag if there is none; `dl_vlan` 0xffff removes it.
    pub fn set(self, flow: &mut Flow, value: &Value) {
        self.set_in(flow, value, &TlvTable::EMPTY);
    }

    pub fn set_in(self, flow: &mut Flow, value: &Value, tlv: &TlvTable) {
        let x = value.to_u128();
        match self.info().place {
            Place::Bits(b) => b.set(flow, x),
            Place::Port11(b) => {
                if let Some(p) = port::from_11(x as u32) {
                    b.set(flow, p.into());
                }
            }
            Place::Tlv(i) => {
                tlv.write(&mut flow.tunnel, usize::from(i), value);
            }
            Place::Tci(b) => {
                b.set(flow, x);
                fix_tpid(flow);
            }
            Place::Tag(_) if self == Field::DlVlan && x as u16 == DL_VLAN_NONE => flow.vlans[0].tci = 0,
            Place::Tag(b) => {
                b.set(flow, x);
                flow.vlans[0].tci |= VLAN_CFI;
                fix_tpid(flow);
            }
        }
    }

    /// As [`Field::set`] with a number.
    pub fn set_u64(self, flow: &mut Flow, x: u64) {
        self.set(flow, &Value::from_u128(self.n_bytes(), x.into()));
    }

    /// Sets the bits of the field that `mask` has.
    pub fn set_masked(self, flow: &mut Flow, value: &Value, mask: &Value) {
        self.set_masked_in(flow, value, mask, &TlvTable::EMPTY);
    }

    pub fn set_masked_in(self, flow: &mut Flow, value: &Value, mask: &Value, tlv: &TlvTable) {
        let n = self.n_bytes_in(tlv);
        let new = self.get_in(flow, tlv).merged(&value.resized(n), &mask.resized(n));
        self.set_in(flow, &new, tlv);
    }

    /// Which bits of the field matter. All ones, spare bits included, if all that can matter do.
    pub fn get_mask(self, mask: &Mask) -> Value {
        self.get_mask_in(mask, &TlvTable::EMPTY)
    }

    pub fn get_mask_in(self, mask: &Mask, tlv: &TlvTable) -> Value {
        let Some(b) = self.bits() else { return self.get_in(mask, tlv) };
        let x = b.get(mask);
        let exact = self.exact_bits(&b);
        if x & exact == exact { Value::ones(self.n_bytes()) } else { Value::from_u128(self.n_bytes(), x) }
    }

    /// Whether no bit of the field matters.
    pub fn is_all_wild(self, mask: &Mask) -> bool {
        match self.info().place {
            Place::Tlv(i) => mask.tunnel.metadata_present >> i & 1 == 0,
            Place::Bits(b) | Place::Port11(b) | Place::Tci(b) | Place::Tag(b) => b.get(mask) == 0,
        }
    }

    /// Whether every bit of the field matters.
    pub fn is_exact(self, mask: &Mask) -> bool {
        self.get_mask(mask).is_ones()
    }

    /// Whether `value` as a mask for this field asks for all of it.
    pub fn is_exact_mask(self, value: &Value) -> bool {
        match self.bits() {
            Some(b) => {
                let exact = self.exact_bits(&b);
                value.to_u128() & exact == exact
            }
            None => value.is_ones(),
        }
    }

    /// Makes every bit of the field matter.
    pub fn unwildcard(self, mask: &mut Mask) {
        self.unwildcard_bits(mask, &Value::ones(self.n_bytes()));
    }

    pub fn unwildcard_in(self, mask: &mut Mask, tlv: &TlvTable) {
        self.unwildcard_bits_in(mask, &Value::ones(self.n_bytes_in(tlv)), tlv);
    }

    /// Makes the bits in `add` matter, besides those that already do.
    pub fn unwildcard_bits(self, mask: &mut Mask, add: &Value) {
        self.unwildcard_bits_in(mask, add, &TlvTable::EMPTY);
    }

    pub fn unwildcard_bits_in(self, mask: &mut Mask, add: &Value, tlv: &TlvTable) {
        let Some(b) = self.bits() else {
            let n = self.n_bytes_in(tlv);
            self.set_masked_in(mask, &Value::ones(n), &add.resized(n), tlv);
            return;
        };
        let new = self.get_mask(mask).to_u128() | add.to_u128();
        self.replace_mask(&b, mask, new);
        if matches!(self.info().place, Place::Tag(_)) {
            mask.vlans[0].tci |= VLAN_CFI;
        }
    }

    /// Makes exactly the bits of `new` matter in this field, all of the storage if they are all.
    fn replace_mask(self, b: &Bits, mask: &mut Mask, new: u128) {
        let exact = self.exact_bits(b);
        b.set(mask, if new & exact == exact { u128::MAX } else { new });
    }

    /// Sets which bits of the field matter to exactly those in `new`.
    pub fn set_mask(self, mask: &mut Mask, new: &Value) {
        self.set_mask_in(mask, new, &TlvTable::EMPTY);
    }

    pub fn set_mask_in(self, mask: &mut Mask, new: &Value, tlv: &TlvTable) {
        match self.bits() {
            Some(b) => self.replace_mask(&b, mask, new.to_u128()),
            None => self.set_in(mask, new, tlv),
        }
    }

    /// Whether the field is there and not zero; for `tun_metadata<i>`, whether it is there.
    pub fn is_set(self, flow: &Flow) -> bool {
        match self.tlv_index() {
            Some(i) => flow.tunnel.metadata_present >> i & 1 != 0,
            None => !self.get(flow).is_zero(),
        }
    }

    /// Whether `mask` is one that the field can be matched with.
    pub fn is_mask_valid(self, mask: &Value) -> bool {
        self.info().maskable == Maskable::Bitwise || mask.is_zero() || mask.is_ones()
    }

    /// Whether a match could ask for `value`: no bit that never is set, no port that cannot be.
    pub fn is_value_valid(self, value: &Value) -> bool {
        let x = value.to_u128();
        match self {
            Field::NshTtl => x <= 63,
            Field::NshMdtype => x == 1 || x == 2,
            Field::ArpOp => x <= 0xff,
            Field::VlanVid => x <= 0x1fff,
            Field::IpDscp => x & 3 == 0,
            Field::CtState => x <= 0xff,
            // OVS takes whatever fits the bytes of these.
            Field::TunErspanIdx | Field::TunErspanVer | Field::TunErspanDir | Field::TunErspanHwid => true,
            _ if self.info().format == Format::PortOxm => port::from_11(x as u32).is_some(),
            _ if self.is_variable_len() => true,
            _ => x & !ones128(self.n_bits()) == 0,
        }
    }
}

/// A tag that has just been made must have a protocol identifier.
fn fix_tpid(flow: &mut Flow) {
    let v = &mut flow.vlans[0];
    if v.tpid == 0 && v.tci != 0 {
        v.tpid = ETH_TYPE_VLAN;
    }
}
