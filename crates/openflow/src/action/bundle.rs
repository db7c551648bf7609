//! `bundle` and `bundle_load`: choose one of several ports.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder, be16, check_output_port};
use super::multipath::parse_fields;
use super::number::lenient_i32;
use super::oxm::has_header32;
use super::table::Form;
use super::text::{Parser, Text, put, token};
use crate::{OfError, PortNo};
use flow::{Field, HashFields, Subfield, oxm};

/// How a member is chosen (`NX_BD_ALG_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum BundleAlgorithm {
    /// The first one that is up.
    ActiveBackup = 0,
    /// Highest random weight.
    Hrw = 1,
}

impl BundleAlgorithm {
    fn from_wire(n: u16) -> Option<Self> {
        [Self::ActiveBackup, Self::Hrw].get(usize::from(n)).copied()
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ActiveBackup => "active_backup",
            Self::Hrw => "hrw",
        }
    }

    fn parse(s: &str) -> Option<Self> {
        [Self::ActiveBackup, Self::Hrw].into_iter().find(|a| a.name().eq_ignore_ascii_case(s))
    }
}

/// Outputs to a member, or writes its number to a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bundle {
    pub algorithm: BundleAlgorithm,
    pub fields: HashFields,
    /// Two actions with different bases hash differently.
    pub basis: u16,
    /// `bundle_load`: where the port's number goes instead of the packet to the port.
    pub dst: Option<Subfield>,
    pub members: Box<[PortNo]>,
}

/// Most members that an action can have.
pub const MEMBERS_MAX: usize = 2048;

impl Bundle {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::decode_form(b, false)
    }

    pub(super) fn decode_load(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::decode_form(b, true)
    }

    fn decode_form(b: &mut Body<'_, '_>, load: bool) -> Result<Action, OfError> {
        let fields = HashFields::from_number(b.u16(12));
        let algorithm = BundleAlgorithm::from_wire(b.u16(10));
        let n_members = usize::from(b.u16(20));
        let members = b.from(32).get(..2 * n_members).ok_or(OfError::OfpbacBadLen);
        let mut dst = None;
        let is_bad = if load {
            let sf = dst.insert(b.cx.subfield32(b.u32(24), b.u16(22))?);
            // Open vSwitch does not mind the rest that must be so or so.
            sf.n_bits < 16
        } else {
            n_members > MEMBERS_MAX || b.u32(16) != oxm::header32(Field::InPort, None) || !b.is_zero(22..32)
        };
        let members = members?.chunks_exact(2).map(|p| PortNo(be16(p, 0))).collect();
        let (Some(fields), Some(algorithm), false) = (fields, algorithm, is_bad) else {
            return Err(OfError::OfpbacBadArgument);
        };
        if let Some(sf) = dst {
            b.cx.check_dst(sf)?;
        }
        let bundle = Bundle { algorithm, fields, basis: b.u16(14), dst, members };
        bundle.check_members(PortNo::MAX)?;
        Ok(Action::Bundle(Box::new(bundle)))
    }

    fn check_members(&self, ports_max: PortNo) -> Result<(), OfError> {
        for port in &self.members {
            if *port == PortNo::CONTROLLER {
                return Err(OfError::OfpbacBadOutPort);
            }
            if *port != PortNo::NONE {
                check_output_port(*port, ports_max)?;
            }
        }
        Ok(())
    }

    pub(super) fn parse(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Self::parse_form(p, s, false)
    }

    pub(super) fn parse_load(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Self::parse_form(p, s, true)
    }

    fn parse_form(p: &mut Parser<'_>, s: &str, load: bool) -> Result<Action, String> {
        let mut rest = s;
        let few = || format!("{s}: not enough arguments to bundle action");
        let mut next = || token(&mut rest, &[',', ' ']).ok_or_else(few);
        let (fields, basis, algorithm, member_type) = (next()?, next()?, next()?, next()?);
        let dst = if load { Some(next()?) } else { None };
        let delimiter = token(&mut rest, &[':', ' ']).ok_or_else(few)?;
        if !["members", "slaves"].iter().any(|d| delimiter.eq_ignore_ascii_case(d)) {
            return Err(format!("{s}: missing member delimiter, expected `members', got `{delimiter}'"));
        }
        let mut members = Vec::new();
        while let Some(member) = token(&mut rest, &[',', ' ', '[', ']']) {
            if members.len() >= MEMBERS_MAX {
                break;
            }
            members.push(p.port(member).ok_or_else(|| format!("{member}: bad port number"))?);
        }
        let fields = parse_fields(fields).ok_or_else(|| format!("{s}: unknown fields `{fields}'"))?;
        let algorithm = BundleAlgorithm::parse(algorithm)
            .ok_or_else(|| format!("{s}: unknown algorithm `{algorithm}'"))?;
        if !member_type.eq_ignore_ascii_case("ofport") {
            return Err(format!("{s}: unknown member_type `{member_type}'"));
        }
        let dst = dst.map(|d| parse_dst(s, d)).transpose()?;
        let basis = lenient_i32(basis) as u16;
        Ok(Action::Bundle(Box::new(Bundle { algorithm, fields, basis, dst, members: members.into() })))
    }
}

fn parse_dst(s: &str, dst: &str) -> Result<Subfield, String> {
    let sf = Subfield::parse(dst)?;
    if has_header32(sf.field) {
        Ok(sf)
    } else {
        Err(format!("{s}: experimenter OXM field '{dst}' not supported"))
    }
}

impl ActionCode for Bundle {
    fn encode(&self, out: &mut Encoder<'_>) {
        let open = out.begin(if self.dst.is_some() { Form::BundleLoad } else { Form::Bundle });
        out.u16(self.algorithm as u16);
        out.u16(self.fields as u16);
        out.u16(self.basis);
        out.field32(Field::InPort);
        out.u16(self.members.len() as u16);
        match self.dst {
            Some(dst) => {
                out.ofs_nbits(dst);
                out.field32(dst.field);
            }
            None => out.zeros(6),
        }
        out.zeros(4);
        for port in &self.members {
            out.u16(port.0);
        }
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        let name = if self.dst.is_some() { "bundle_load" } else { "bundle" };
        put!(out, "{name}({},{},{},ofport,", self.fields.name(), self.basis, self.algorithm.name());
        if let Some(dst) = &self.dst {
            out.subfield(dst);
            out.put_str(",");
        }
        out.put_str("members:");
        for (i, port) in self.members.iter().enumerate() {
            if i > 0 {
                out.put_str(",");
            }
            out.port(*port);
        }
        out.put_str(")");
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        if let Some(dst) = &self.dst {
            cx.dst(dst)?;
        }
        self.check_members(cx.params.ports_max)
    }
}
