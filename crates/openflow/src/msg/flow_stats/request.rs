//! Requests for flows.

use flow::MiniMatch;

use crate::context::{Context, Target, take_match, take_nxm_match, take_of10_match};
use crate::form::{Form, Incoming};
use crate::msg::flow_mod::GROUP_ANY;
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, PortNo, Protocol};

/// A request for flows, or for the sum of their counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowStatsRequest {
    /// The flows must be at least as specific as this.
    pub matched: MiniMatch,
    /// The flows must have these bits of their cookie where `cookie_mask` is set.
    pub cookie: u64,
    /// Which bits of `cookie` count.
    pub cookie_mask: u64,
    /// The flows must output to this port, [`PortNo::NONE`] for any.
    pub out_port: PortNo,
    /// The flows must output to this group, [`GROUP_ANY`] for any.
    pub out_group: u32,
    /// The table, 255 for all.
    pub table_id: u8,
}

impl FlowStatsRequest {
    /// Decodes a flow or aggregate request.
    ///
    /// # Errors
    /// `OFPBRC_BAD_LEN`, `OFPBAC_BAD_OUT_PORT` and those of matches.
    pub fn decode(msg: &Incoming<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        match msg.form {
            Form::Ofpst10FlowRequest | Form::Ofpst10AggregateRequest => Self::take_of10(&mut r),
            Form::NxstFlowRequest | Form::NxstAggregateRequest => Self::take_nxm(&mut r, context),
            _ => Self::take_of11(&mut r, context),
        }
    }

    fn take_of10(r: &mut Reader<'_>) -> Result<Self, OfError> {
        let matched = MiniMatch::from(&take_of10_match(r)?);
        let table_id = r.u8()?;
        r.skip(1)?;
        let out_port = PortNo(r.u16()?);
        Ok(Self { matched, cookie: 0, cookie_mask: 0, out_port, out_group: GROUP_ANY, table_id })
    }

    fn take_nxm(r: &mut Reader<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        let out_port = PortNo(r.u16()?);
        let match_len = usize::from(r.u16()?);
        let table_id = r.u8()?;
        r.skip(3)?;
        let options = flow::oxm::Options { allow_cookie: true, ..context.match_options() };
        let decoded = take_nxm_match(r, match_len, options)?;
        if !r.is_empty() {
            return Err(OfError::OfpbrcBadLen);
        }
        Ok(Self {
            matched: MiniMatch::from(&decoded.matched),
            cookie: decoded.cookie,
            cookie_mask: decoded.cookie_mask,
            out_port,
            out_group: GROUP_ANY,
            table_id,
        })
    }

    fn take_of11(r: &mut Reader<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        let table_id = r.u8()?;
        r.skip(3)?;
        let out_port = PortNo::from_of11(r.u32()?)?;
        let out_group = r.u32()?;
        r.skip(4)?;
        let cookie = r.u64()?;
        let cookie_mask = r.u64()?;
        let matched = MiniMatch::from(&take_match(r, context.match_options())?);
        Ok(Self { matched, cookie, cookie_mask, out_port, out_group, table_id })
    }

    /// Encodes a flow request, an aggregate request if `aggregate` is set.
    #[must_use]
    pub fn encode(&self, aggregate: bool, target: &Target<'_>, xid: u32) -> Vec<u8> {
        let form = match (target.protocol, aggregate) {
            (Protocol::Of10Std | Protocol::Of10StdTid, false) => Form::Ofpst10FlowRequest,
            (Protocol::Of10Std | Protocol::Of10StdTid, true) => Form::Ofpst10AggregateRequest,
            (Protocol::Of10Nxm | Protocol::Of10NxmTid, false) => Form::NxstFlowRequest,
            (Protocol::Of10Nxm | Protocol::Of10NxmTid, true) => Form::NxstAggregateRequest,
            (_, false) => Form::Ofpst11FlowRequest,
            (Protocol::Of15, true) => Form::Ofpst15AggregateRequest,
            (_, true) => Form::Ofpst11AggregateRequest,
        };
        let mut out = Vec::with_capacity(128);
        form.put(target.version(), xid, &mut out, |out| match form {
            Form::Ofpst10FlowRequest | Form::Ofpst10AggregateRequest => {
                out.put_bytes(&flow::legacy::encode_ofp10(&self.matched.expand()));
                out.put_u8(self.table_id);
                out.put_zeros(1);
                out.put_u16(self.out_port.0);
            }
            Form::NxstFlowRequest | Form::NxstAggregateRequest => self.put_nxm(out, target),
            _ => self.put_of11(out, target),
        });
        out
    }

    fn put_nxm(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        out.put_u16(self.out_port.0);
        let match_len_at = out.len();
        out.put_zeros(2);
        out.put_u8(self.table_id);
        out.put_zeros(3);
        let match_len = target.put_nxm_match(out, &self.matched.expand(), self.cookie, self.cookie_mask);
        out.set_u16(match_len_at, len16(match_len));
    }

    fn put_of11(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        out.put_u8(self.table_id);
        out.put_zeros(3);
        out.put_u32(self.out_port.to_of11());
        out.put_u32(self.out_group);
        out.put_zeros(4);
        out.put_u64(self.cookie);
        out.put_u64(self.cookie_mask);
        target.put_match(out, &self.matched.expand());
    }
}
