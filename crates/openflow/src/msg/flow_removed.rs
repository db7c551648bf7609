//! `OFPT_FLOW_REMOVED` and `NXT_FLOW_REMOVED`: a flow went.

use flow::{Match, MiniMatch};

use crate::context::{Context, Target, take_match, take_nxm_match, take_of10_match};
use crate::elapsed::Elapsed;
use crate::form::{Form, Incoming};
use crate::msg::oxs::Oxs;
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, Protocol, Version};

/// Why flows go: `OFPRR_*`.
pub mod reason {
    /// No packets for the idle timeout.
    pub const IDLE_TIMEOUT: u8 = 0;
    /// The hard timeout is over.
    pub const HARD_TIMEOUT: u8 = 1;
    /// A controller deleted it.
    pub const DELETE: u8 = 2;
    /// A group that it outputs to went (OpenFlow 1.1+).
    pub const GROUP_DELETE: u8 = 3;
    /// A meter that it goes through went (OpenFlow 1.4+).
    pub const METER_DELETE: u8 = 4;
    /// To make room (OpenFlow 1.4+).
    pub const EVICTION: u8 = 5;
}

/// A flow removed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowRemoved {
    /// Which packets it was for.
    pub matched: MiniMatch,
    /// Its cookie.
    pub cookie: u64,
    /// Its priority.
    pub priority: u16,
    /// Why it went, one of [`reason`].
    pub reason: u8,
    /// Its table, 255 if the message does not say.
    pub table_id: u8,
    /// For how long it was there.
    pub duration: Option<Elapsed>,
    /// Its idle timeout.
    pub idle_timeout: u16,
    /// Its hard timeout; does not travel in OpenFlow 1.0.
    pub hard_timeout: u16,
    /// Its packets, `u64::MAX` if not known.
    pub packet_count: u64,
    /// Its bytes, `u64::MAX` if not known.
    pub byte_count: u64,
}

impl FlowRemoved {
    /// Decodes a flow removed message.
    ///
    /// # Errors
    /// `OFPBRC_BAD_LEN` and those of matches.
    pub fn decode(msg: &Incoming<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        match msg.form {
            Form::Ofpt15FlowRemoved => Self::take_of15(&mut r, context),
            Form::Ofpt11FlowRemoved => Self::take_of11(&mut r, context),
            Form::Ofpt10FlowRemoved => {
                let matched = take_of10_match(&mut r)?;
                let mut this = Self::take_of10(&mut r, &matched, |_padding| 255)?;
                this.packet_count = r.u64()?;
                this.byte_count = r.u64()?;
                Ok(this)
            }
            _ => Self::take_nxm(&mut r, context),
        }
    }

    fn take_of15(r: &mut Reader<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        let table_id = r.u8()?;
        let reason = r.u8()?;
        let priority = r.u16()?;
        let idle_timeout = r.u16()?;
        let hard_timeout = r.u16()?;
        let cookie = r.u64()?;
        let matched = MiniMatch::from(&take_match(r, context.match_options())?);
        let oxs = Oxs::take(r)?;
        Ok(Self {
            matched,
            cookie,
            priority,
            reason,
            table_id,
            duration: oxs.duration,
            idle_timeout,
            hard_timeout,
            packet_count: oxs.packet_count.unwrap_or(u64::MAX),
            byte_count: oxs.byte_count.unwrap_or(u64::MAX),
        })
    }

    fn take_of11(r: &mut Reader<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        let cookie = r.u64()?;
        let priority = r.u16()?;
        let reason = r.u8()?;
        let table_id = r.u8()?;
        let duration = Elapsed::from_wire(r.u32()?, r.u32()?);
        let idle_timeout = r.u16()?;
        let hard_timeout = r.u16()?;
        let packet_count = r.u64()?;
        let byte_count = r.u64()?;
        let matched = MiniMatch::from(&take_match(r, context.match_options())?);
        Ok(Self {
            matched,
            cookie,
            priority,
            reason,
            table_id,
            duration,
            idle_timeout,
            hard_timeout,
            packet_count,
            byte_count,
        })
    }

    /// What the messages of OpenFlow 1.0 have in common, from the cookie to the idle timeout and the two
    /// bytes after it.
    fn take_of10(r: &mut Reader<'_>, matched: &Match, table: impl Fn(u8) -> u8) -> Result<Self, OfError> {
        let cookie = r.u64()?;
        let priority = r.u16()?;
        let reason = r.u8()?;
        let table_id = table(r.u8()?);
        let duration = Elapsed::from_wire(r.u32()?, r.u32()?);
        let idle_timeout = r.u16()?;
        r.skip(2)?;
        Ok(Self {
            matched: MiniMatch::from(matched),
            cookie,
            priority,
            reason,
            table_id,
            duration,
            idle_timeout,
            hard_timeout: 0,
            packet_count: 0,
            byte_count: 0,
        })
    }

    fn take_nxm(r: &mut Reader<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        let mut ahead = *r;
        ahead.skip(22)?;
        let match_len = usize::from(ahead.u16()?);
        // The table's number plus one, 0 for none.
        let mut this = Self::take_of10(r, &Match::catchall(), |wire| wire.wrapping_sub(1))?;
        this.packet_count = r.u64()?;
        this.byte_count = r.u64()?;
        this.matched = MiniMatch::from(&take_nxm_match(r, match_len, context.match_options())?.matched);
        if r.is_empty() { Ok(this) } else { Err(OfError::OfpbrcBadLen) }
    }

    /// Encodes a flow removed message. An asynchronous message: `xid` is 0 in Open vSwitch's.
    #[must_use]
    pub fn encode(&self, target: &Target<'_>, xid: u32) -> Vec<u8> {
        let version = target.version();
        let mut out = Vec::with_capacity(128);
        let form = match target.protocol {
            Protocol::Of10Std | Protocol::Of10StdTid => Form::Ofpt10FlowRemoved,
            Protocol::Of10Nxm | Protocol::Of10NxmTid => Form::NxtFlowRemoved,
            Protocol::Of15 => Form::Ofpt15FlowRemoved,
            _ => Form::Ofpt11FlowRemoved,
        };
        form.put(version, xid, &mut out, |out| match form {
            Form::Ofpt10FlowRemoved => self.put_of10(out, version),
            Form::NxtFlowRemoved => self.put_nxm(out, target),
            Form::Ofpt15FlowRemoved => self.put_of15(out, target),
            _ => self.put_of11(out, target),
        });
        out
    }

    /// The reason, or the nearest that `version` has.
    const fn reason_in(&self, version: Version) -> u8 {
        match (self.reason, version) {
            (reason::METER_DELETE, Version::Of14 | Version::Of15) => reason::METER_DELETE,
            (reason::METER_DELETE, _) => reason::DELETE,
            (other, _) => other,
        }
    }

    fn put_duration(&self, out: &mut Vec<u8>) {
        let (sec, nsec) = Elapsed::to_wire(self.duration);
        out.put_u32(sec);
        out.put_u32(nsec);
    }

    fn put_of10(&self, out: &mut Vec<u8>, version: Version) {
        let known = |count| if count == u64::MAX { 0 } else { count };
        out.put_bytes(&flow::legacy::encode_ofp10(&self.matched.expand()));
        out.put_u64(self.cookie);
        out.put_u16(self.priority);
        out.put_u8(self.reason_in(version));
        out.put_zeros(1);
        self.put_duration(out);
        out.put_u16(self.idle_timeout);
        out.put_zeros(2);
        out.put_u64(known(self.packet_count));
        out.put_u64(known(self.byte_count));
    }

    fn put_nxm(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        out.put_u64(self.cookie);
        out.put_u16(self.priority);
        out.put_u8(self.reason_in(target.version()));
        out.put_u8(self.table_id.wrapping_add(1));
        self.put_duration(out);
        out.put_u16(self.idle_timeout);
        let match_len_at = out.len();
        out.put_zeros(2);
        out.put_u64(self.packet_count);
        out.put_u64(self.byte_count);
        let match_len = target.put_nxm_match(out, &self.matched.expand(), 0, 0);
        out.set_u16(match_len_at, len16(match_len));
    }

    fn put_of11(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        out.put_u64(self.cookie);
        out.put_u16(self.priority);
        out.put_u8(self.reason_in(target.version()));
        out.put_u8(self.table_id);
        self.put_duration(out);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u64(self.packet_count);
        out.put_u64(self.byte_count);
        target.put_match(out, &self.matched.expand());
    }

    fn put_of15(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        out.put_u8(self.table_id);
        out.put_u8(self.reason_in(target.version()));
        out.put_u16(self.priority);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u64(self.cookie);
        target.put_match(out, &self.matched.expand());
        let known = |count| if count == u64::MAX { None } else { Some(count) };
        Oxs {
            duration: self.duration,
            packet_count: known(self.packet_count),
            byte_count: known(self.byte_count),
            ..Oxs::default()
        }
        .put(out);
    }
}
