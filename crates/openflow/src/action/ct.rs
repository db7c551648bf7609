//! `ct`: hand the packet to the connection tracker.

use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder};
use super::nat::Nat;
use super::number::parse_u16;
use super::parse;
use super::table::Form;
use super::text::{Parser, Text, put};
use super::verify::Allowed;
use super::{Action, Kind};
use crate::OfError;
use flow::text::key_values;
use flow::{Subfield, ct_state, ip_proto};

bitflags::bitflags! {
    /// `NX_CT_F_*`. Others that come are kept.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct CtFlags: u16 {
        const COMMIT = 1 << 0;
        /// Replace a connection of the opposite direction.
        const FORCE = 1 << 1;
        const _ = !0;
    }
}

/// Which zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CtZone {
    Immediate(u16),
    /// The zone whose number stands there; 16 bits wide.
    Field(Subfield),
}

/// Well-known ports that stand for their protocols in [`Ct::alg`].
pub mod alg {
    pub const NONE: u16 = 0;
    pub const FTP: u16 = 21;
    pub const TFTP: u16 = 69;
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ct {
    pub flags: CtFlags,
    pub zone: CtZone,
    /// Where the tracked packet goes on; `None`: nowhere.
    pub recirc_table: Option<u8>,
    /// One of [`alg`], or what came.
    pub alg: u16,
    /// [`super::Nat`], and sets of `ct_mark` and `ct_label`.
    pub actions: Box<[Action]>,
}

/// `NX_CT_RECIRC_NONE`
const RECIRC_NONE: u8 = 255;

impl Ct {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let flags = CtFlags::from_bits_retain(b.u16(10));
        if flags.contains(CtFlags::FORCE) && !flags.contains(CtFlags::COMMIT) {
            return Err(OfError::OfpbacBadArgument);
        }
        let zone = match b.u32(12) {
            0 => CtZone::Immediate(b.u16(16)),
            header => {
                let src = b.cx.subfield32(header, b.u16(16))?;
                CtZone::Field(b.cx.check_src(src)?)
            }
        };
        if matches!(zone, CtZone::Field(src) if src.n_bits != 16) {
            return Err(OfError::OfpbacBadSetLen);
        }
        let nested = b.bytes.get(24..).unwrap_or_default();
        let actions: Box<[Action]> = b.cx.verified_list(nested, Allowed::Actions, Some(Kind::Ct))?.into();
        let is_plain_nat = |a: &Action| matches!(a, Action::Nat(nat) if nat.is_plain());
        if !flags.contains(CtFlags::COMMIT) && !actions.iter().all(is_plain_nat) {
            return Err(OfError::OfpbacBadArgument);
        }
        let recirc_table = Some(b.u8(18)).filter(|t| *t != RECIRC_NONE);
        Ok(Action::Ct(Box::new(Ct { flags, zone, recirc_table, alg: b.u16(22), actions })))
    }

    pub(super) fn parse(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let mut a = Ct {
            flags: CtFlags::empty(),
            zone: CtZone::Immediate(0),
            recirc_table: None,
            alg: alg::NONE,
            actions: Box::default(),
        };
        let mut actions = Vec::new();
        for (key, value) in key_values(s) {
            match key {
                "nat" => actions.push(Nat::parse(p, value)?),
                "exec" => actions.extend(parse::list(p, value, false, Some(Kind::Ct))?),
                _ => a.parse_key(p, key, value)?,
            }
        }
        if a.flags.contains(CtFlags::FORCE) && !a.flags.contains(CtFlags::COMMIT) {
            return Err("\"force\" flag requires \"commit\" flag.".into());
        }
        a.actions = actions.into();
        Ok(Action::Ct(Box::new(a)))
    }

    fn parse_key(&mut self, p: &Parser<'_>, key: &str, value: &str) -> Result<(), String> {
        match key {
            "commit" => self.flags |= CtFlags::COMMIT,
            "force" => self.flags |= CtFlags::FORCE,
            "table" => {
                let table = p.table(value).ok_or_else(|| format!("unknown table {value}"))?;
                if table == RECIRC_NONE {
                    return Err(format!("invalid table {table:#x}"));
                }
                self.recirc_table = Some(table);
            }
            "zone" => {
                self.zone = match parse_u16(value, "zone") {
                    Ok(zone) => CtZone::Immediate(zone),
                    Err(_) => CtZone::Field(Subfield::parse(value)?),
                };
            }
            "alg" => {
                self.alg = match value {
                    "ftp" => alg::FTP,
                    "tftp" => alg::TFTP,
                    _ => return Err(format!("invalid conntrack helper \"{value}\"")),
                };
            }
            _ => return Err(format!("invalid argument to \"ct\" action: `{key}'")),
        }
        Ok(())
    }
}

impl ActionCode for Ct {
    fn encode(&self, out: &mut Encoder<'_>) {
        let open = out.begin(Form::Ct);
        out.u16(self.flags.bits());
        match self.zone {
            CtZone::Immediate(zone) => {
                out.u32(0);
                out.u16(zone);
            }
            CtZone::Field(src) => {
                out.field32(src.field);
                out.ofs_nbits(src);
            }
        }
        out.u8(self.recirc_table.unwrap_or(RECIRC_NONE));
        out.zeros(3);
        out.u16(self.alg);
        out.actions(&self.actions);
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("ct(");
        if self.flags.contains(CtFlags::COMMIT) {
            out.put_str("commit,");
        }
        if self.flags.contains(CtFlags::FORCE) {
            out.put_str("force,");
        }
        if let Some(table) = self.recirc_table {
            out.put_str("table=");
            out.table(table);
            out.put_str(",");
        }
        match &self.zone {
            CtZone::Immediate(0) => {}
            CtZone::Immediate(zone) => put!(out, "zone={zone},"),
            CtZone::Field(src) => {
                out.put_str("zone=");
                out.subfield(src);
                out.put_str(",");
            }
        }
        // A NAT that comes first is shown outside of `exec`.
        let mut rest = &*self.actions;
        if let [Action::Nat(nat), tail @ ..] = rest {
            nat.format(out);
            out.put_str(",");
            rest = tail;
        }
        if !rest.is_empty() {
            out.put_str("exec(");
            out.actions(rest);
            out.put_str("),");
        }
        match self.alg {
            alg::NONE => {}
            alg::FTP => out.put_str("alg=ftp,"),
            alg::TFTP => out.put_str("alg=tftp,"),
            n => put!(out, "alg={n},"),
        }
        out.chomp();
        out.put_str(")");
    }

    /// A tracker that cannot track is no use to OpenFlow 1.0 either, so that these are errors for all.
    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        let (commit, proto) = (self.flags.contains(CtFlags::COMMIT), cx.flow.nw_proto);
        let is_bad = !cx.flow.is_ip_any()
            || cx.flow.ct_state & ct_state::INV != 0 && commit
            || self.alg == alg::FTP && proto != ip_proto::TCP
            || self.alg == alg::TFTP && proto != ip_proto::UDP;
        if is_bad {
            return Err(OfError::OfpbacMatchInconsistent);
        }
        match &self.zone {
            CtZone::Field(src) => cx.src(src),
            CtZone::Immediate(_) => cx.nested(&mut self.actions),
        }
    }

    fn nested(&self) -> Option<&[Action]> {
        Some(&self.actions)
    }
}
