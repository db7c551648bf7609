//! `multipath`: choose a link by a hash.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder};
use super::number::lenient_i32;
use super::oxm::has_header32;
use super::table::Form;
use super::text::{Parser, Text, put, token};
use crate::OfError;
use flow::{HashFields, Subfield};

/// Reads the name of [`HashFields`], in any case.
pub(super) fn parse_fields(s: &str) -> Option<HashFields> {
    HashFields::from_name(&s.to_ascii_lowercase())
}

/// How a hash becomes a link (`NX_MP_ALG_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum MultipathAlgorithm {
    ModuloN = 0,
    HashThreshold = 1,
    /// Highest random weight.
    Hrw = 2,
    IterHash = 3,
}

impl MultipathAlgorithm {
    const ALL: [(Self, &'static str); 4] = [
        (Self::ModuloN, "modulo_n"),
        (Self::HashThreshold, "hash_threshold"),
        (Self::Hrw, "hrw"),
        (Self::IterHash, "iter_hash"),
    ];

    fn from_wire(n: u16) -> Option<Self> {
        Self::ALL.get(usize::from(n)).map(|(a, _)| *a)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    fn parse(s: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| name.eq_ignore_ascii_case(s)).map(|(a, _)| *a)
    }
}

/// `multipath`: write the number of a link, chosen by a hash, to a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Multipath {
    pub fields: HashFields,
    /// Two actions with different bases hash differently.
    pub basis: u16,
    pub algorithm: MultipathAlgorithm,
    /// Number of links, less one.
    pub max_link: u16,
    /// What the algorithm takes it for.
    pub arg: u32,
    pub dst: Subfield,
}

impl Multipath {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let dst = b.cx.subfield32(b.u32(28), b.u16(26))?;
        let bad = OfError::OfpbacBadArgument;
        let fields = HashFields::from_number(b.u16(10)).ok_or(bad)?;
        let algorithm = MultipathAlgorithm::from_wire(b.u16(16)).ok_or(bad)?;
        let max_link = b.u16(18);
        let n_links = u32::from(max_link) + 1;
        if u32::from(dst.n_bits) < n_links.next_power_of_two().trailing_zeros() {
            return Err(bad);
        }
        let dst = b.cx.check_dst(dst)?;
        let (basis, arg) = (b.u16(12), b.u32(20));
        Ok(Action::Multipath(Box::new(Multipath { fields, basis, algorithm, max_link, arg, dst })))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let mut rest = s;
        let mut next = || {
            token(&mut rest, &[',', ' '])
                .ok_or_else(|| format!("{s}: not enough arguments to multipath action"))
        };
        let (fields, basis, algorithm) = (next()?, next()?, next()?);
        let (n_links, arg, dst_s) = (next()?, next()?, next()?);
        let fields = parse_fields(fields).ok_or_else(|| format!("{s}: unknown fields `{fields}'"))?;
        let algorithm = MultipathAlgorithm::parse(algorithm)
            .ok_or_else(|| format!("{s}: unknown algorithm `{algorithm}'"))?;
        let n_links = lenient_i32(n_links);
        if !(1..=65536).contains(&n_links) {
            return Err(format!("{s}: n_links {n_links} is not in valid range 1 to 65536"));
        }
        let dst = Subfield::parse(dst_s)?;
        if !has_header32(dst.field) {
            return Err(format!("{s}: experimenter OXM field '{dst_s}' not supported"));
        }
        if dst.n_bits < 16 && n_links > 1 << dst.n_bits {
            return Err(format!(
                "{s}: {}-bit destination field has {} possible values, less than specified n_links {n_links}",
                dst.n_bits,
                1u32 << dst.n_bits
            ));
        }
        Ok(Action::Multipath(Box::new(Multipath {
            fields,
            basis: lenient_i32(basis) as u16,
            algorithm,
            max_link: (n_links - 1) as u16,
            arg: lenient_i32(arg) as u32,
            dst,
        })))
    }
}

impl ActionCode for Multipath {
    fn encode(&self, out: &mut Encoder<'_>) {
        let open = out.begin(Form::Multipath);
        out.u16(self.fields as u16);
        out.u16(self.basis);
        out.zeros(2);
        out.u16(self.algorithm as u16);
        out.u16(self.max_link);
        out.u32(self.arg);
        out.zeros(2);
        out.ofs_nbits(self.dst);
        out.field32(self.dst.field);
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        let (fields, algorithm) = (self.fields.name(), self.algorithm.name());
        let n_links = u32::from(self.max_link) + 1;
        put!(out, "multipath({fields},{},{algorithm},{n_links},{},", self.basis, self.arg);
        out.subfield(&self.dst);
        out.put_str(")");
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        cx.dst(&self.dst)
    }
}
