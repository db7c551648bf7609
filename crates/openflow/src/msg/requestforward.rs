//! `OFPT_REQUESTFORWARD`: tell a controller what another one asked for.

use crate::context::{Context, Target};
use crate::form::{Form, Incoming, MsgType, identify};
use crate::msg::group_mod::GroupMod;
use crate::msg::meter::MeterMod;
use crate::multipart::MESSAGE_LEN_MAX;
use crate::wire::PutBytes;
use crate::{Header, OfError, Version};

/// The request that is forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardedRequest {
    /// A group-mod.
    GroupMod(GroupMod),
    /// A meter-mod.
    MeterMod(MeterMod),
}

/// A forwarded request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestForward {
    /// The transaction id of the request.
    pub request_xid: u32,
    /// The request.
    pub request: ForwardedRequest,
}

impl RequestForward {
    /// Decodes a forwarded request.
    ///
    /// # Errors
    /// `OFPBFC_MSG_BAD_LEN`, `OFPBRC_BAD_VERSION`, `OFPBFC_MSG_UNSUP`, and those of the request.
    pub fn decode(msg: &Incoming<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let inner = Header::parse(r.rest()).ok_or(OfError::OfpbfcMsgBadLen)?;
        let inner_len = usize::from(inner.length);
        if inner_len < Header::LEN || inner_len > r.len() {
            return Err(OfError::OfpbfcMsgBadLen);
        }
        if inner.version != msg.header.version {
            return Err(OfError::OfpbrcBadVersion);
        }
        let incoming = identify(r.take(inner_len)?)?;
        let request = match incoming.msg_type() {
            MsgType::GroupMod => ForwardedRequest::GroupMod(GroupMod::decode(&incoming, context)?),
            MsgType::MeterMod => ForwardedRequest::MeterMod(MeterMod::decode(&incoming)?),
            _ => return Err(OfError::OfpbfcMsgUnsup),
        };
        Ok(Self { request_xid: inner.xid, request })
    }

    /// Encodes a forwarded request; `None` if the version does not have it, or it is too long
    /// for a message around it. An asynchronous message: `xid`
    /// is 0 in Open vSwitch's.
    #[must_use]
    pub fn encode(&self, target: &Target<'_>, xid: u32) -> Option<Vec<u8>> {
        let version = target.version();
        let inner = match &self.request {
            ForwardedRequest::GroupMod(group_mod) => group_mod.encode(target, self.request_xid)?,
            ForwardedRequest::MeterMod(meter_mod) => meter_mod.encode(version, self.request_xid)?,
        };
        let form = match version {
            Version::Of10 | Version::Of11 | Version::Of12 => Form::NxtRequestForward,
            Version::Of13 => Form::Onft13RequestForward,
            Version::Of14 | Version::Of15 => Form::Ofpt14RequestForward,
        };
        let mut out = Vec::with_capacity(16 + inner.len());
        form.put(version, xid, &mut out, |out| out.put_bytes(&inner));
        Some(out).filter(|out| out.len() <= MESSAGE_LEN_MAX)
    }
}
