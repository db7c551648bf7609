//! Flows, one by one.

use std::borrow::Cow;

use flow::{Match, MiniMatch};

use super::known;
use crate::action::Action;
use crate::context::{Context, Target, take_match, take_nxm_match, take_of10_match};
use crate::elapsed::Elapsed;
use crate::form::{Form, Incoming};
use crate::msg::flow_mod::FlowFlags;
use crate::msg::oxs::Oxs;
use crate::multipart::MultipartWriter;
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, Version};

/// A flow, with its counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowStats<'a> {
    /// Which packets it is for.
    pub matched: Cow<'a, MiniMatch>,
    /// Its cookie.
    pub cookie: u64,
    /// Its table.
    pub table_id: u8,
    /// Its priority.
    pub priority: u16,
    /// Its idle timeout in seconds, 0 for none.
    pub idle_timeout: u16,
    /// Its hard timeout in seconds, 0 for none.
    pub hard_timeout: u16,
    /// For how long it has been there.
    pub duration: Option<Elapsed>,
    /// Seconds since its last packet. Travels in Nicira's messages (if the connection has sent
    /// `NXT_FLOW_AGE`) and in OpenFlow 1.5.
    pub idle_age: Option<u32>,
    /// Seconds since it was last changed. Travels in Nicira's messages.
    pub hard_age: Option<u32>,
    /// Its packets, `u64::MAX` if not known.
    pub packet_count: u64,
    /// Its bytes, `u64::MAX` if not known.
    pub byte_count: u64,
    /// What to do with packets.
    pub actions: Cow<'a, [Action]>,
    /// Flags; travel in OpenFlow 1.3 and later.
    pub flags: FlowFlags,
    /// Flows of lower importance are evicted first; travels in OpenFlow 1.4 and later.
    pub importance: u16,
}

/// Decodes the flows in one message of a reply.
///
/// # Errors
/// `OFPBRC_BAD_LEN` and those of matches and instructions.
pub fn decode_reply(msg: &Incoming<'_>, context: &Context<'_>) -> Result<Vec<FlowStats<'static>>, OfError> {
    let mut r = msg.body();
    let mut flows = Vec::new();
    while !r.is_empty() {
        let len = usize::from({ r }.u16()?);
        let mut entry = r.sub(len)?;
        flows.push(FlowStats::take(&mut entry, msg, context)?);
    }
    Ok(flows)
}

/// Adds a flow to a reply. Returns false if it is too long for a message and was left out.
pub fn append(stats: &FlowStats<'_>, target: &Target<'_>, replies: &mut MultipartWriter) -> bool {
    let form = replies.form();
    replies.append(|out| stats.put(out, form, target))
}

/// Nicira's messages have ages plus one, and 0 for unknown.
fn age_to_wire(age: Option<u32>) -> u16 {
    age.map_or(0, |age| u16::try_from(age.saturating_add(1)).unwrap_or(u16::MAX))
}

fn age_from_wire(wire: u16) -> Option<u32> {
    wire.checked_sub(1).map(u32::from)
}

impl FlowStats<'_> {
    /// Takes the one entry that `r` holds.
    fn take(
        r: &mut Reader<'_>,
        msg: &Incoming<'_>,
        context: &Context<'_>,
    ) -> Result<FlowStats<'static>, OfError> {
        let mut stats = match msg.form {
            Form::Ofpst15FlowReply => FlowStats::take_of15(r, context)?,
            Form::Ofpst10FlowReply => FlowStats::take_of10(r)?,
            Form::NxstFlowReply => FlowStats::take_nxm(r, context)?,
            form => FlowStats::take_of11(r, form, msg.version, context)?,
        };
        stats.actions = context.decoder(msg.version).instructions(r.rest())?.into();
        Ok(stats)
    }

    fn empty(matched: &Match) -> FlowStats<'static> {
        FlowStats {
            matched: Cow::Owned(MiniMatch::from(matched)),
            cookie: 0,
            table_id: 0,
            priority: 0,
            idle_timeout: 0,
            hard_timeout: 0,
            duration: None,
            idle_age: None,
            hard_age: None,
            packet_count: u64::MAX,
            byte_count: u64::MAX,
            actions: Cow::Borrowed(&[]),
            flags: FlowFlags::empty(),
            importance: 0,
        }
    }

    fn take_of15(r: &mut Reader<'_>, context: &Context<'_>) -> Result<FlowStats<'static>, OfError> {
        r.skip(4)?;
        let table_id = r.u8()?;
        r.skip(1)?;
        let priority = r.u16()?;
        let idle_timeout = r.u16()?;
        let hard_timeout = r.u16()?;
        let flags = FlowFlags::from_wire(r.u16()?, Version::Of15)?;
        let importance = r.u16()?;
        let cookie = r.u64()?;
        let matched = take_match(r, context.match_options())?;
        let oxs = Oxs::take(r)?;
        Ok(FlowStats {
            cookie,
            table_id,
            priority,
            idle_timeout,
            hard_timeout,
            duration: oxs.duration,
            idle_age: oxs.idle_sec,
            packet_count: oxs.packet_count.unwrap_or(u64::MAX),
            byte_count: oxs.byte_count.unwrap_or(u64::MAX),
            flags,
            importance,
            ..FlowStats::empty(&matched)
        })
    }

    fn take_of11(
        r: &mut Reader<'_>,
        form: Form,
        version: Version,
        context: &Context<'_>,
    ) -> Result<FlowStats<'static>, OfError> {
        r.skip(2)?;
        let table_id = r.u8()?;
        r.skip(1)?;
        let duration = Elapsed::from_wire(r.u32()?, r.u32()?);
        let priority = r.u16()?;
        let idle_timeout = r.u16()?;
        let hard_timeout = r.u16()?;
        let wire_flags = r.u16()?;
        let importance = r.u16()?;
        r.skip(2)?;
        let cookie = r.u64()?;
        let packet_count = r.u64()?;
        let byte_count = r.u64()?;
        let matched = take_match(r, context.match_options())?;
        let flags = match form {
            Form::Ofpst13FlowReply => FlowFlags::from_wire(wire_flags, version)?,
            _ => FlowFlags::empty(),
        };
        Ok(FlowStats {
            cookie,
            table_id,
            priority,
            idle_timeout,
            hard_timeout,
            duration,
            packet_count,
            byte_count,
            flags,
            importance: if version >= Version::Of14 { importance } else { 0 },
            ..FlowStats::empty(&matched)
        })
    }

    fn take_of10(r: &mut Reader<'_>) -> Result<FlowStats<'static>, OfError> {
        r.skip(2)?;
        let table_id = r.u8()?;
        r.skip(1)?;
        let matched = take_of10_match(r)?;
        let duration = Elapsed::from_wire(r.u32()?, r.u32()?);
        let priority = r.u16()?;
        let idle_timeout = r.u16()?;
        let hard_timeout = r.u16()?;
        r.skip(6)?;
        Ok(FlowStats {
            table_id,
            duration,
            priority,
            idle_timeout,
            hard_timeout,
            cookie: r.u64()?,
            packet_count: r.u64()?,
            byte_count: r.u64()?,
            ..FlowStats::empty(&matched)
        })
    }

    fn take_nxm(r: &mut Reader<'_>, context: &Context<'_>) -> Result<FlowStats<'static>, OfError> {
        r.skip(2)?;
        let table_id = r.u8()?;
        r.skip(1)?;
        let duration = Elapsed::from_wire(r.u32()?, r.u32()?);
        let priority = r.u16()?;
        let idle_timeout = r.u16()?;
        let hard_timeout = r.u16()?;
        let match_len = usize::from(r.u16()?);
        let idle_age = age_from_wire(r.u16()?);
        let hard_age = age_from_wire(r.u16()?);
        let cookie = r.u64()?;
        let packet_count = r.u64()?;
        let byte_count = r.u64()?;
        if r.len() < match_len.next_multiple_of(8) {
            return Err(OfError::OfpbrcBadLen);
        }
        let matched = take_nxm_match(r, match_len, context.match_options())?.matched;
        Ok(FlowStats {
            cookie,
            table_id,
            priority,
            idle_timeout,
            hard_timeout,
            duration,
            idle_age,
            hard_age,
            packet_count,
            byte_count,
            ..FlowStats::empty(&matched)
        })
    }

    fn put(&self, out: &mut Vec<u8>, form: Form, target: &Target<'_>) {
        let start = out.len();
        match form {
            Form::Ofpst15FlowReply => self.put_of15(out, target),
            Form::Ofpst10FlowReply => self.put_of10(out, target),
            Form::NxstFlowReply => self.put_nxm(out, target),
            _ => self.put_of11(out, form, target),
        }
        let len = len16(out.len() - start);
        out.set_u16(start, len);
    }

    fn put_duration(&self, out: &mut Vec<u8>) {
        let (sec, nsec) = Elapsed::to_wire(self.duration);
        out.put_u32(sec);
        out.put_u32(nsec);
    }

    fn put_of15(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        out.put_zeros(4);
        out.put_u8(self.table_id);
        out.put_zeros(1);
        out.put_u16(self.priority);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u16(self.flags.to_wire(Version::Of15));
        out.put_u16(self.importance);
        out.put_u64(self.cookie);
        target.put_oxm_match(out, &self.matched.expand());
        Oxs {
            duration: self.duration,
            idle_sec: self.idle_age,
            packet_count: known(self.packet_count),
            byte_count: known(self.byte_count),
            flow_count: None,
        }
        .put(out);
        target.encoder(out).instructions(&self.actions);
    }

    fn put_of11(&self, out: &mut Vec<u8>, form: Form, target: &Target<'_>) {
        let version = target.version();
        out.put_zeros(2);
        out.put_u8(self.table_id);
        out.put_zeros(1);
        self.put_duration(out);
        out.put_u16(self.priority);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u16(if form == Form::Ofpst13FlowReply { self.flags.to_wire(version) } else { 0 });
        out.put_u16(if version >= Version::Of14 { self.importance } else { 0 });
        out.put_zeros(2);
        out.put_u64(self.cookie);
        out.put_u64(known(self.packet_count).unwrap_or(0));
        out.put_u64(known(self.byte_count).unwrap_or(0));
        // In OpenFlow 1.1 too: Open vSwitch never puts the fixed match in here.
        target.put_oxm_match(out, &self.matched.expand());
        target.encoder(out).instructions(&self.actions);
    }

    fn put_of10(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        out.put_zeros(2);
        out.put_u8(self.table_id);
        out.put_zeros(1);
        out.put_bytes(&flow::legacy::encode_ofp10(&self.matched.expand()));
        self.put_duration(out);
        out.put_u16(self.priority);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_zeros(6);
        out.put_u64(self.cookie);
        out.put_u64(known(self.packet_count).unwrap_or(0));
        out.put_u64(known(self.byte_count).unwrap_or(0));
        target.encoder(out).actions(&self.actions);
    }

    fn put_nxm(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        out.put_zeros(2);
        out.put_u8(self.table_id);
        out.put_zeros(1);
        self.put_duration(out);
        out.put_u16(self.priority);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        let match_len_at = out.len();
        out.put_zeros(2);
        out.put_u16(age_to_wire(self.idle_age));
        out.put_u16(age_to_wire(self.hard_age));
        out.put_u64(self.cookie);
        out.put_u64(self.packet_count);
        out.put_u64(self.byte_count);
        let match_len = target.put_nxm_match(out, &self.matched.expand(), 0, 0);
        out.set_u16(match_len_at, len16(match_len));
        target.encoder(out).actions(&self.actions);
    }
}
