//! `set_field` and `load`: write a value to a field, or to some of its bits.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder};
use super::oxm::has_header32;
use super::table::Form;
use super::text::{Parser, Text, put};
use super::vlan::VID_PRESENT;
use crate::{OfError, Version};
use flow::text::NoNames;
use flow::{Field, Subfield, VLAN_CFI, Value, eth_type, ofp};

/// In which of its forms the action came, and will leave again where the version has that form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetForm {
    /// `OFPAT_SET_FIELD`: `set_field:`.
    SetField,
    /// `NXAST_REG_LOAD`: `load:`.
    Load,
    /// `NXAST_REG_LOAD2`, which text does not tell from `set_field:`.
    Load2,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Head {
    field: Field,
    form: SetForm,
    flow_has_vlan: bool,
}

/// A field, a value and a mask of ones where the value counts.
///
/// Most fields are short, and most rules write some: a value of up to 6 bytes is held in place.
#[derive(Clone, PartialEq, Eq)]
pub struct SetField(Repr);

#[derive(Clone, PartialEq, Eq)]
enum Repr {
    Short(Head, Pair<SHORT>),
    Word(Box<(Head, Pair<8>)>),
    Double(Box<(Head, Pair<16>)>),
    /// Value and mask one after the other.
    Long(Box<(Head, Box<[u8]>)>),
}

const SHORT: usize = 6;

/// Value and mask, as many bytes of each as the field has.
#[derive(Clone, PartialEq, Eq)]
struct Pair<const N: usize> {
    value: [u8; N],
    mask: [u8; N],
}

impl<const N: usize> Pair<N> {
    fn new(value: &Value, mask: &Value) -> Self {
        let pad = |v: &Value| {
            let mut out = [0; N];
            out.iter_mut().zip(v.as_bytes()).for_each(|(o, b)| *o = *b);
            out
        };
        Pair { value: pad(value), mask: pad(mask) }
    }
}

impl std::fmt::Debug for SetField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = self.head();
        f.debug_struct("SetField")
            .field("field", &head.field)
            .field("value", &Value::from_bytes(self.value()))
            .field("mask", &Value::from_bytes(self.mask()))
            .field("form", &head.form)
            .field("flow_has_vlan", &head.flow_has_vlan)
            .finish()
    }
}

impl SetField {
    /// Writes those bits of `value` to `field` that `mask` has. Both have the field's length; for
    /// `tun_metadata<i>` it may be shorter, as the bridge has it.
    #[must_use]
    pub fn new(field: Field, value: &Value, mask: &Value, form: SetForm) -> Self {
        let head = Head { field, form, flow_has_vlan: false };
        let mask = mask.resized(value.len());
        SetField(match value.len() {
            // Their length is not the field's, and has to be kept.
            _ if field.is_variable_len() => {
                Repr::Long(Box::new((head, [value.as_bytes(), mask.as_bytes()].concat().into())))
            }
            0..=SHORT => Repr::Short(head, Pair::new(value, &mask)),
            7 | 8 => Repr::Word(Box::new((head, Pair::new(value, &mask)))),
            _ => Repr::Double(Box::new((head, Pair::new(value, &mask)))),
        })
    }

    /// Writes all of `field`.
    #[must_use]
    pub fn whole(field: Field, value: &Value, form: SetForm) -> Self {
        Self::new(field, value, &Value::ones(value.len()), form)
    }

    /// Writes the low bits of `value` to `dst`. `n_bytes` is the field's length.
    #[must_use]
    pub fn load(dst: &Subfield, value: &Value, n_bytes: usize) -> Self {
        let (mut v, mut m) = (Value::zero(n_bytes), Value::zero(n_bytes));
        v.copy_bits(dst.ofs.into(), value, 0, dst.n_bits.into());
        m.set_ones(dst.ofs.into(), dst.n_bits.into());
        Self::new(dst.field, &v, &m, SetForm::Load)
    }

    fn head(&self) -> &Head {
        match &self.0 {
            Repr::Short(head, _) => head,
            Repr::Word(b) => &b.0,
            Repr::Double(b) => &b.0,
            Repr::Long(b) => &b.0,
        }
    }

    fn head_mut(&mut self) -> &mut Head {
        match &mut self.0 {
            Repr::Short(head, _) => head,
            Repr::Word(b) => &mut b.0,
            Repr::Double(b) => &mut b.0,
            Repr::Long(b) => &mut b.0,
        }
    }

    pub(super) fn forget_check(&mut self) {
        self.head_mut().flow_has_vlan = false;
    }

    #[must_use]
    pub fn field(&self) -> Field {
        self.head().field
    }

    #[must_use]
    pub fn form(&self) -> SetForm {
        self.head().form
    }

    /// Big-endian. Bits outside the mask are zero, except in forms that let them be otherwise.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.halves().0
    }

    /// As long as the value.
    #[must_use]
    pub fn mask(&self) -> &[u8] {
        self.halves().1
    }

    fn halves(&self) -> (&[u8], &[u8]) {
        let (value, mask): (&[u8], &[u8]) = match &self.0 {
            Repr::Short(_, p) => (&p.value, &p.mask),
            Repr::Word(b) => (&b.1.value, &b.1.mask),
            Repr::Double(b) => (&b.1.value, &b.1.mask),
            Repr::Long(b) => return b.1.split_at(b.1.len() / 2),
        };
        let n = self.field().n_bytes().min(value.len());
        (&value[..n], &mask[..n])
    }

    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::from_bytes(self.value())
    }

    #[must_use]
    pub fn to_mask(&self) -> Value {
        Value::from_bytes(self.mask())
    }

    /// Whether it writes every bit of the field.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.mask().iter().all(|b| *b == 0xff)
    }

    /// The writes of at most 64 adjacent bits that do the same, from the low end up.
    fn segments(&self) -> Vec<(Subfield, u64)> {
        let (value, mask) = (self.to_value(), self.to_mask());
        let width = if self.field().is_variable_len() { mask.len() * 8 } else { self.field().n_bits() };
        let mut out = Vec::new();
        let mut ofs = 0;
        while let Some(start) = (ofs..width).find(|i| mask.bit(*i)) {
            let limit = width.min(start + 64);
            let end = (start + 1..limit).find(|i| !mask.bit(*i)).unwrap_or(limit);
            let sf = Subfield { field: self.field(), ofs: start as u16, n_bits: (end - start) as u16 };
            out.push((sf, value.bits(start, end - start).to_u64()));
            ofs = end;
        }
        out
    }

    /// Reads OpenFlow 1.2 to 1.4's form.
    pub(super) fn decode12(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::decode_set_field(b, false)
    }

    /// Reads OpenFlow 1.5's form, which may have a mask.
    pub(super) fn decode15(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::decode_set_field(b, true)
    }

    fn decode_set_field(b: &mut Body<'_, '_>, may_mask: bool) -> Result<Action, OfError> {
        let mut rest = b.from(4);
        let entry = b.cx.pull_entry(&mut rest)?;
        if entry.mask.is_some() && !may_mask {
            return Err(OfError::OfpbacBadSetMask);
        }
        let (field, value) = (entry.field, entry.value);
        let mask = entry.mask.unwrap_or(Value::ones(value.len()));
        let is_bad = rest.iter().any(|b| *b != 0)
            || field == Field::InPortOxm
            || !field.info().writable
            || !field.is_value_valid(&value)
            || field == Field::VlanVid && (value.and(&mask).to_u64() as u16) & VID_PRESENT == 0;
        if is_bad {
            return Err(OfError::OfpbacBadSetArgument);
        }
        Ok(Action::SetField(SetField::new(field, &value, &mask, SetForm::SetField)))
    }

    pub(super) fn decode_load(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let dst = b.cx.subfield32(b.u32(12), b.u16(10))?;
        let dst = b.cx.check_dst(dst)?;
        let value = b.u64(16);
        if value.checked_shr(dst.n_bits.into()).unwrap_or(0) != 0 {
            return Err(OfError::OfpbacBadArgument);
        }
        let n_bytes = super::oxm::field_bytes(dst.field, b.cx.tlv);
        Ok(Action::SetField(SetField::load(&dst, &value.into(), n_bytes)))
    }

    pub(super) fn decode_load2(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let mut rest = b.from(10);
        let entry = b.cx.pull_entry(&mut rest)?;
        if rest.iter().any(|b| *b != 0) || !entry.field.info().writable {
            return Err(OfError::OfpbacBadSetArgument);
        }
        let mask = entry.mask.unwrap_or(Value::ones(entry.value.len()));
        Ok(Action::SetField(SetField::new(entry.field, &entry.value, &mask, SetForm::Load2)))
    }

    pub(super) fn parse(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let (value_s, name) = split_arrow(s)?;
        let field = Field::by_name(name).ok_or_else(|| format!("{name} is not a valid OXM field name"))?;
        if !field.info().writable {
            return Err(format!("{name} is read-only"));
        }
        let (value, mask) = field.parse_masked(value_s, p.names)?;
        if !field.is_value_valid(&value) {
            return Err(format!("{value_s} is not a valid value for field {name}"));
        }
        p.protocols &= field.protocols_exact();
        Ok(Action::SetField(SetField::new(field, &value, &mask, SetForm::SetField)))
    }
}

/// `VALUE->FIELD`
pub(super) fn split_arrow(s: &str) -> Result<(&str, &str), String> {
    match s.split_once("->") {
        None => Err(format!("{s}: missing `->'")),
        Some((_, "")) => Err(format!("{s}: missing field name following `->'")),
        Some(parts) => Ok(parts),
    }
}

/// Reads the arguments of `load`.
pub(super) fn parse_load(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
    let (value_s, dst) = split_arrow(s)?;
    let dst = Subfield::parse(dst)?;
    let n_bytes = dst.field.n_bytes();
    let (value, _) =
        super::number::wide(value_s, n_bytes).ok_or_else(|| format!("{s}: cannot parse integer value"))?;
    let n_bits = usize::from(dst.n_bits);
    if !value.bits(n_bits, 8 * n_bytes - n_bits).is_zero() {
        let shown = dst.field.format_value(&value, None, &NoNames);
        return Err(format!("{s}: value {shown} does not fit into {n_bits} bits"));
    }
    Ok(Action::SetField(SetField::load(&dst, &value, n_bytes)))
}

impl ActionCode for SetField {
    fn encode(&self, out: &mut Encoder<'_>) {
        let is_load = self.form() != SetForm::SetField;
        match out.version {
            Version::Of15 => out.set_field(self),
            _ if is_load => out.load(self),
            Version::Of10 | Version::Of11 => out.legacy_setter(self),
            _ if self.is_whole() => out.set_field(self),
            _ => out.load(self),
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        if self.form() == SetForm::Load {
            for (i, (dst, value)) in self.segments().iter().enumerate() {
                put!(out, "{}load:{}->", if i > 0 { "," } else { "" }, HexOrZero(*value));
                out.subfield(dst);
            }
        } else {
            out.put_str("set_field:");
            out.field_value(self.field(), &self.to_value(), Some(&self.to_mask()));
            put!(out, "->{}", self.field().name());
        }
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        let field = self.field();
        let has_vlan = cx.flow.vlans[0].is_present();
        if !field.prereqs_ok_in_packet(&cx.flow) || field == Field::VlanVid && !has_vlan {
            return Err(OfError::OfpbacMatchInconsistent);
        }
        self.head_mut().flow_has_vlan = has_vlan;
        if field == Field::VlanTci {
            cx.flow.vlans[0].tci = self.to_value().to_u64() as u16;
        }
        Ok(())
    }
}

/// As C's `%#x`: zero has no prefix.
pub(super) struct HexOrZero(pub u64);

impl std::fmt::Display for HexOrZero {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == 0 { f.write_str("0") } else { write!(f, "{:#x}", self.0) }
    }
}

impl Encoder<'_> {
    /// `OFPAT_SET_FIELD` of a whole field of up to 8 bytes.
    pub(super) fn set_field_int(&mut self, field: Field, value: u64) {
        let value = Value::from_u128(field.n_bytes(), value.into());
        self.set_field(&SetField::whole(field, &value, SetForm::SetField));
    }

    fn set_field(&mut self, a: &SetField) {
        let form = if self.version == Version::Of15 { Form::SetField15 } else { Form::SetField12 };
        let open = self.begin(form);
        self.entry(a.field(), self.version.wire(), &a.to_value(), &a.to_mask());
        self.end(open);
    }

    /// `NXAST_REG_LOAD` of a whole field of up to 64 bits.
    pub(super) fn load_int(&mut self, field: Field, n_bits: u16, value: u64) {
        self.load_segment(&Subfield { field, ofs: 0, n_bits }, value);
    }

    fn load_segment(&mut self, dst: &Subfield, value: u64) {
        let open = self.begin(Form::Load);
        self.ofs_nbits(*dst);
        self.field32(dst.field);
        self.u64(value);
        self.end(open);
    }

    /// As many `NXAST_REG_LOAD` as are needed, or one `NXAST_REG_LOAD2`.
    fn load(&mut self, a: &SetField) {
        if a.form() == SetForm::Load2 || !has_header32(a.field()) || a.field().is_variable_len() {
            let open = self.begin(Form::Load2);
            self.entry(a.field(), ofp::NXM, &a.to_value(), &a.to_mask());
            self.end(open);
        } else {
            for (dst, value) in a.segments() {
                self.load_segment(&dst, value);
            }
        }
    }

    /// What OpenFlow 1.0 and 1.1 have for the field.
    fn legacy_setter(&mut self, a: &SetField) {
        let value = a.to_value().to_u64();
        let is_10 = self.version == Version::Of10;
        let (vid_form, pcp_form) = if is_10 {
            (Form::SetVlanVid10, Form::SetVlanPcp10)
        } else {
            (Form::SetVlanVid11, Form::SetVlanPcp11)
        };
        match a.field() {
            Field::VlanTci if value & u64::from(VLAN_CFI) == 0 => {
                self.void(if is_10 { Form::StripVlan } else { Form::PopVlan });
            }
            Field::VlanTci => {
                if !is_10 && !a.head().flow_has_vlan {
                    self.arg(Form::PushVlan, eth_type::VLAN.into());
                }
                self.arg(vid_form, value & 0xfff);
                self.arg(pcp_form, value >> 13);
            }
            Field::VlanVid => self.arg(vid_form, value & 0xfff),
            Field::VlanPcp => self.arg(pcp_form, value),
            Field::EthSrc => self.address(Form::SetEthSrc, a.value()),
            Field::EthDst => self.address(Form::SetEthDst, a.value()),
            Field::Ipv4Src => self.arg(Form::SetIpv4Src, value),
            Field::Ipv4Dst => self.arg(Form::SetIpv4Dst, value),
            Field::IpDscp => self.arg(Form::SetIpDscp, value),
            Field::IpDscpShifted => self.arg(Form::SetIpDscp, value << 2),
            Field::IpEcn if is_10 => self.load_int(Field::IpEcn, 2, value),
            Field::IpEcn => self.arg(Form::SetIpEcn, value),
            Field::TcpSrc | Field::UdpSrc => self.arg(Form::SetL4SrcPort, value),
            Field::TcpDst | Field::UdpDst => self.arg(Form::SetL4DstPort, value),
            _ => self.load(a),
        }
    }

    fn address(&mut self, form: Form, addr: &[u8]) {
        let open = self.begin(form);
        self.bytes(addr);
        self.end(open);
    }
}
