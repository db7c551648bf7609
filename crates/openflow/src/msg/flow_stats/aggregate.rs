//! Sums of counters.

use super::known;
use crate::form::{Form, Incoming};
use crate::msg::oxs::Oxs;
use crate::wire::PutBytes;
use crate::{OfError, Version};

/// The sum of the counters of flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AggregateStats {
    /// Packets, `u64::MAX` if not known.
    pub packet_count: u64,
    /// Bytes, `u64::MAX` if not known.
    pub byte_count: u64,
    /// Flows, `u32::MAX` if not known.
    pub flow_count: u32,
}

impl AggregateStats {
    /// Decodes a reply.
    ///
    /// # Errors
    /// `OFPBMC_BAD_LEN`
    pub fn decode_reply(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        if msg.form == Form::Ofpst15AggregateReply {
            let oxs = Oxs::take(&mut r)?;
            return Ok(Self {
                packet_count: oxs.packet_count.unwrap_or(u64::MAX),
                byte_count: oxs.byte_count.unwrap_or(u64::MAX),
                flow_count: oxs.flow_count.unwrap_or(u32::MAX),
            });
        }
        Ok(Self { packet_count: r.u64()?, byte_count: r.u64()?, flow_count: r.u32()? })
    }

    /// Encodes the reply to `request`, which must be an aggregate request.
    #[must_use]
    pub fn encode_reply(&self, request: &Incoming<'_>) -> Vec<u8> {
        let form = request.form.reply(request.version).unwrap_or(Form::OfpstAggregateReply);
        self.encode(form, request.version, request.header.xid)
    }

    /// Encodes a reply of the form `form`.
    pub(crate) fn encode(&self, form: Form, version: Version, xid: u32) -> Vec<u8> {
        let mut out = Vec::new();
        form.put(version, xid, &mut out, |out| {
            if form == Form::Ofpst15AggregateReply {
                let flow_count = if self.flow_count == u32::MAX { None } else { Some(self.flow_count) };
                Oxs {
                    packet_count: known(self.packet_count),
                    byte_count: known(self.byte_count),
                    flow_count,
                    ..Oxs::default()
                }
                .put(out);
                return;
            }
            let is_of10_std = version == Version::Of10 && form == Form::OfpstAggregateReply;
            let count = |count| if is_of10_std { known(count).unwrap_or(0) } else { count };
            out.put_u64(count(self.packet_count));
            out.put_u64(count(self.byte_count));
            out.put_u32(self.flow_count);
            out.put_zeros(4);
        });
        out
    }
}
