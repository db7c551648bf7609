//! Actions that concern the rule they are in rather than the packet.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder};
use super::number::{hex_bytes, number, parse_u16};
use super::table::Form;
use super::text::{Parser, Text, put};
use crate::OfError;
use flow::ip_proto;
use flow::text::key_values;

/// `note`: bytes without any effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    pub data: Box<[u8]>,
}

impl Note {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::Note(Box::new(Note { data: b.from(10).into() })))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        match hex_bytes(s) {
            (data, "") => Ok(Action::Note(Box::new(Note { data: data.into() }))),
            _ => Err("bad hex digit in `note' argument".into()),
        }
    }
}

impl ActionCode for Note {
    fn encode(&self, out: &mut Encoder<'_>) {
        let open = out.begin(Form::Note);
        out.bytes(&self.data);
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("note:");
        out.dotted(&self.data);
    }
}

/// `fin_timeout`: shorten the rule's timeouts once it has seen a FIN or RST.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FinTimeout {
    /// Seconds; 0 for no change.
    pub idle_timeout: u16,
    /// Seconds; 0 for no change.
    pub hard_timeout: u16,
}

impl FinTimeout {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::FinTimeout(FinTimeout { idle_timeout: b.u16(10), hard_timeout: b.u16(12) }))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let mut a = FinTimeout { idle_timeout: 0, hard_timeout: 0 };
        for (key, value) in key_values(s) {
            match key {
                "idle_timeout" => a.idle_timeout = parse_u16(value, key)?,
                "hard_timeout" => a.hard_timeout = parse_u16(value, key)?,
                _ => return Err(format!("invalid key '{key}' in 'fin_timeout' argument")),
            }
        }
        Ok(Action::FinTimeout(a))
    }
}

impl ActionCode for FinTimeout {
    fn encode(&self, out: &mut Encoder<'_>) {
        let open = out.begin(Form::FinTimeout);
        out.u16(self.idle_timeout);
        out.u16(self.hard_timeout);
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("fin_timeout(");
        if self.idle_timeout != 0 {
            put!(out, "idle_timeout={},", self.idle_timeout);
        }
        if self.hard_timeout != 0 {
            put!(out, "hard_timeout={},", self.hard_timeout);
        }
        out.chomp();
        out.put_str(")");
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        cx.require(cx.flow.nw_proto == ip_proto::TCP);
        Ok(())
    }
}

/// `conjunction`: the rule is one of several of a clause, and all clauses together match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conjunction {
    pub id: u32,
    /// From 0.
    pub clause: u8,
    pub n_clauses: u8,
}

const CLAUSES_MAX: u8 = 64;

impl Conjunction {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let a = Conjunction { id: b.u32(12), clause: b.u8(10), n_clauses: b.u8(11) };
        let ok = (2..=CLAUSES_MAX).contains(&a.n_clauses) && a.clause < a.n_clauses;
        if ok { Ok(Action::Conjunction(a)) } else { Err(OfError::NxbacBadConjunction) }
    }

    /// `ID,CLAUSE/CLAUSES`, clauses from 1.
    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let (id, clause, n_clauses) =
            Self::scan(s).ok_or("\"conjunction\" syntax is \"conjunction(id,i/n)\"")?;
        if n_clauses < 2 {
            Err("conjunction must have at least 2 clauses".into())
        } else if n_clauses > CLAUSES_MAX {
            Err("conjunction must have at most 64 clauses".into())
        } else if clause < 1 {
            Err("clause index must be positive".into())
        } else if clause > n_clauses {
            Err("clause index must be less than or equal to number of clauses".into())
        } else {
            Ok(Action::Conjunction(Conjunction { id, clause: clause - 1, n_clauses }))
        }
    }

    fn scan(s: &str) -> Option<(u32, u8, u8)> {
        let id = number(s, 0)?;
        let clause = number(id.rest.trim_start().strip_prefix(',')?, 10)?;
        let n_clauses = number(clause.rest.trim_start().strip_prefix('/')?, 10)?;
        let small = |n: &super::number::Number<'_>| Some(n.as_u64()? as u8);
        let all = (id.as_u64()? as u32, small(&clause)?, small(&n_clauses)?);
        n_clauses.rest.trim_start().is_empty().then_some(all)
    }
}

impl ActionCode for Conjunction {
    fn encode(&self, out: &mut Encoder<'_>) {
        let open = out.begin(Form::Conjunction);
        out.u8(self.clause);
        out.u8(self.n_clauses);
        out.u32(self.id);
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        put!(out, "conjunction({},{}/{})", self.id, u16::from(self.clause) + 1, self.n_clauses);
    }
}
