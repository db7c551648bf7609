//! `check_pkt_larger`: note in a field whether the packet is longer than so many bytes.

use super::Action;
use super::define::ActionCode;
use super::field::split_arrow;
use super::form::{Body, Encoder};
use super::number::parse_u16;
use super::table::Form;
use super::text::{Parser, Text, put};
use crate::OfError;
use flow::{Subfield, ofp};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckPktLarger {
    pub pkt_len: u16,
    /// One bit.
    pub dst: Subfield,
}

impl CheckPktLarger {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let (pkt_len, ofs) = (b.u16(10), b.u16(12));
        let mut rest = b.from(14);
        let field = b.cx.pull_field(&mut rest)?;
        if rest.iter().any(|b| *b != 0) {
            return Err(OfError::NxbrcMustBeZero);
        }
        let dst = b.cx.check_dst(Subfield { field, ofs, n_bits: 1 })?;
        Ok(Action::CheckPktLarger(CheckPktLarger { pkt_len, dst }))
    }

    /// `LEN)->FIELD[BIT]`, as it is left of `check_pkt_larger(LEN)->FIELD[BIT]`.
    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let (len, dst) = split_arrow(s)?;
        let len = len.strip_suffix(')').unwrap_or(len);
        let dst = Subfield::parse(dst)?;
        if dst.n_bits != 1 {
            return Err("Only 1-bit destination field is allowed".into());
        }
        // Open vSwitch, too, has no name for it here.
        Ok(Action::CheckPktLarger(CheckPktLarger { pkt_len: parse_u16(len, "(null)")?, dst }))
    }
}

impl ActionCode for CheckPktLarger {
    fn encode(&self, out: &mut Encoder<'_>) {
        let open = out.begin(Form::CheckPktLarger);
        out.u16(self.pkt_len);
        out.u16(self.dst.ofs);
        out.field(self.dst.field, ofp::NXM);
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        put!(out, "check_pkt_larger({})->", self.pkt_len);
        out.subfield(&self.dst);
    }
}
