//! `dec_ttl`: decrement the TTL or hop limit.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder, be16};
use super::number::lenient_i32;
use super::table::Form;
use super::text::{Parser, Text, put, token};
use crate::OfError;

/// Decrements, and sends packets that have lived long enough to the controllers with certain ids.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DecTtl {
    /// To controllers with id 0.
    Plain,
    /// `NXAST_DEC_TTL_CNT_IDS`, `dec_ttl(ID,...)`
    To(Box<Vec<u16>>),
}

impl DecTtl {
    /// The ids of the controllers.
    #[must_use]
    pub fn controller_ids(&self) -> &[u16] {
        match self {
            DecTtl::Plain => &[0],
            DecTtl::To(ids) => ids,
        }
    }

    pub(super) fn decode(_: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::DecTtl(DecTtl::Plain))
    }

    pub(super) fn decode_ids(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        if !b.is_zero(12..16) {
            return Err(OfError::NxbrcMustBeZero);
        }
        let n = usize::from(b.u16(10));
        let ids = b.from(16).get(..2 * n).ok_or(OfError::OfpbacBadLen)?;
        Ok(Action::DecTtl(DecTtl::To(Box::new(ids.chunks_exact(2).map(|id| be16(id, 0)).collect()))))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        if s.is_empty() {
            return Ok(Action::DecTtl(DecTtl::Plain));
        }
        let mut rest = s;
        let mut ids = Vec::new();
        while let Some(id) = token(&mut rest, &[',', ' ']) {
            ids.push(lenient_i32(id) as u16);
        }
        if ids.is_empty() {
            return Err("dec_ttl_cnt_ids: expected at least one controller id.".into());
        }
        Ok(Action::DecTtl(DecTtl::To(Box::new(ids))))
    }
}

impl ActionCode for DecTtl {
    fn encode(&self, out: &mut Encoder<'_>) {
        let DecTtl::To(ids) = self else { return out.void(Form::DecTtl) };
        let open = out.begin(Form::DecTtlIds);
        out.u16(ids.len() as u16);
        out.zeros(4);
        for id in ids.iter() {
            out.u16(*id);
        }
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("dec_ttl");
        if let DecTtl::To(ids) = self {
            for (i, id) in ids.iter().enumerate() {
                put!(out, "{}{id}", if i > 0 { "," } else { "(" });
            }
            out.put_str(if ids.is_empty() { "()" } else { ")" });
        }
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        cx.require(cx.flow.is_ip_any());
        Ok(())
    }
}
