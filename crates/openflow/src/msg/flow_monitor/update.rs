//! What monitors tell.

use std::borrow::Cow;

use flow::MiniMatch;

use crate::action::Action;
use crate::context::{Context, Target, take_match, take_nxm_match};
use crate::form::{Form, Incoming};
use crate::multipart::MultipartWriter;
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, Version};

/// What happened to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpdateEvent {
    /// It was there at the beginning.
    Initial,
    /// It was added.
    Added,
    /// It was removed.
    Removed,
    /// It was changed.
    Modified,
}

/// What a monitor tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowUpdate<'a> {
    /// A flow as it is, or was.
    Full(FullUpdate<'a>),
    /// The controller's own request with this transaction id changed flows.
    Abbreviated(u32),
    /// Nothing more will be told for now (OpenFlow 1.4+; a message of its own before).
    Paused,
    /// Everything will be told again (OpenFlow 1.4+; a message of its own before).
    Resumed,
}

/// A flow as it is, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullUpdate<'a> {
    /// What happened to it.
    pub event: UpdateEvent,
    /// Why it was removed, `OFPRR_*`; else 0.
    pub reason: u16,
    /// Its idle timeout.
    pub idle_timeout: u16,
    /// Its hard timeout.
    pub hard_timeout: u16,
    /// Its table.
    pub table_id: u8,
    /// Its priority.
    pub priority: u16,
    /// Its cookie.
    pub cookie: u64,
    /// Which packets it is for.
    pub matched: Cow<'a, MiniMatch>,
    /// What it does with them, if the monitor asks for that.
    pub actions: Cow<'a, [Action]>,
}

/// Of an update about a flow, without match and actions.
const FULL_LEN: usize = 24;
/// Of all other updates.
const SHORT_LEN: usize = 8;
const ABBREVIATED: u16 = 4;
const PAUSED: u16 = 5;
const RESUMED: u16 = 6;
/// `NXFME_ABBREV` and `ONFFME_ABBREV`
const EXTENSION_ABBREVIATED: u16 = 3;

impl UpdateEvent {
    /// The number in OpenFlow 1.4. The extensions count from `Added`, and have it for `Initial` too.
    const fn to_wire(self) -> u16 {
        match self {
            Self::Initial => 0,
            Self::Added => 1,
            Self::Removed => 2,
            Self::Modified => 3,
        }
    }

    const fn from_wire(wire: u16) -> Option<Self> {
        Some(match wire {
            0 => Self::Initial,
            1 => Self::Added,
            2 => Self::Removed,
            3 => Self::Modified,
            _ => return None,
        })
    }
}

/// Begins the messages that tell updates. They are replies to no request: `xid` is 0 in Open vSwitch's.
#[must_use]
pub fn begin_updates(version: Version, xid: u32) -> MultipartWriter {
    let form = match version {
        Version::Of10 | Version::Of11 | Version::Of12 => Form::NxstFlowMonitorReply,
        Version::Of13 => Form::Onfst13FlowMonitorReply,
        Version::Of14 | Version::Of15 => Form::Ofpst14FlowMonitorReply,
    };
    MultipartWriter::new(form, version, xid)
}

/// Adds an update.
pub fn append_update(update: &FlowUpdate<'_>, target: &Target<'_>, replies: &mut MultipartWriter) -> bool {
    let form = replies.form();
    replies.append(|out| update.put(out, form, target))
}

/// Decodes the updates in a message.
///
/// # Errors
/// `NXBRC_FM_BAD_EVENT`, `OFPBRC_BAD_LEN` and those of matches and instructions.
pub fn decode_updates(
    msg: &Incoming<'_>,
    context: &Context<'_>,
) -> Result<Vec<FlowUpdate<'static>>, OfError> {
    let mut r = msg.body();
    let mut updates = Vec::new();
    while !r.is_empty() {
        updates.push(take_update(&mut r, msg, context)?);
    }
    Ok(updates)
}

fn take_update(
    r: &mut Reader<'_>,
    msg: &Incoming<'_>,
    context: &Context<'_>,
) -> Result<FlowUpdate<'static>, OfError> {
    let mut head = *r;
    let len = usize::from(head.u16()?);
    let wire_event = head.u16()?;
    if len < SHORT_LEN || !len.is_multiple_of(8) {
        return Err(OfError::OfpbrcBadLen);
    }
    let mut entry = r.sub(len)?;
    entry.skip(4)?;
    let is_of14 = msg.form == Form::Ofpst14FlowMonitorReply;
    let number = if is_of14 { wire_event } else { wire_event.saturating_add(1) };
    if number == ABBREVIATED && len == SHORT_LEN {
        return Ok(FlowUpdate::Abbreviated(entry.u32()?));
    }
    match (is_of14, number) {
        (true, PAUSED) if len == SHORT_LEN => Ok(FlowUpdate::Paused),
        (true, RESUMED) if len == SHORT_LEN => Ok(FlowUpdate::Resumed),
        (_, ABBREVIATED) | (true, PAUSED | RESUMED) => Err(OfError::OfpbrcBadLen),
        _ => {
            let event = UpdateEvent::from_wire(number).ok_or(OfError::NxbrcFmBadEvent)?;
            let full = if is_of14 {
                FullUpdate::take_of14(entry, event, msg.version, context)?
            } else {
                FullUpdate::take_extension(entry, event, msg, context)?
            };
            Ok(FlowUpdate::Full(full))
        }
    }
}

impl FlowUpdate<'_> {
    fn put(&self, out: &mut Vec<u8>, form: Form, target: &Target<'_>) {
        let is_of14 = form == Form::Ofpst14FlowMonitorReply;
        let start = out.len();
        out.put_zeros(2);
        match self {
            Self::Full(full) if is_of14 => full.put_of14(out, target),
            Self::Full(full) => full.put_extension(out, target),
            Self::Abbreviated(xid) => {
                out.put_u16(if is_of14 { ABBREVIATED } else { EXTENSION_ABBREVIATED });
                out.put_u32(*xid);
            }
            Self::Paused => {
                out.put_u16(PAUSED);
                out.put_zeros(4);
            }
            Self::Resumed => {
                out.put_u16(RESUMED);
                out.put_zeros(4);
            }
        }
        let len = len16(out.len() - start);
        out.set_u16(start, len);
    }
}

impl FullUpdate<'_> {
    fn take_of14(
        mut r: Reader<'_>,
        event: UpdateEvent,
        version: Version,
        context: &Context<'_>,
    ) -> Result<FullUpdate<'static>, OfError> {
        let table_id = r.u8()?;
        let reason = u16::from(r.u8()?);
        let idle_timeout = r.u16()?;
        let hard_timeout = r.u16()?;
        let priority = r.u16()?;
        r.skip(4)?;
        let cookie = r.u64()?;
        let matched = Cow::Owned(MiniMatch::from(&take_match(&mut r, context.match_options())?));
        let actions = context.decoder(version).instructions(r.rest())?.into();
        Ok(FullUpdate {
            event,
            reason,
            idle_timeout,
            hard_timeout,
            table_id,
            priority,
            cookie,
            matched,
            actions,
        })
    }

    fn put_of14(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        out.put_u16(self.event.to_wire());
        out.put_u8(self.table_id);
        out.put_u8(self.reason as u8);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u16(self.priority);
        out.put_zeros(4);
        out.put_u64(self.cookie);
        target.put_oxm_match(out, &self.matched.expand());
        target.encoder(out).instructions(&self.actions);
    }

    fn take_extension(
        mut r: Reader<'_>,
        event: UpdateEvent,
        msg: &Incoming<'_>,
        context: &Context<'_>,
    ) -> Result<FullUpdate<'static>, OfError> {
        let reason = r.u16()?;
        let priority = r.u16()?;
        let idle_timeout = r.u16()?;
        let hard_timeout = r.u16()?;
        let match_len = usize::from(r.u16()?);
        let table_id = r.u8()?;
        r.skip(1)?;
        let cookie = r.u64()?;
        if match_len > r.len() {
            return Err(OfError::OfpbrcBadLen);
        }
        let mut decoder = context.decoder(msg.version);
        let (matched, actions) = if msg.form == Form::Onfst13FlowMonitorReply {
            let matched = take_match(&mut r, context.match_options())?;
            (matched, decoder.instructions(r.rest())?)
        } else {
            let matched = take_nxm_match(&mut r, match_len, context.match_options())?.matched;
            (matched, decoder.actions(r.rest())?)
        };
        Ok(FullUpdate {
            event,
            reason,
            idle_timeout,
            hard_timeout,
            table_id,
            priority,
            cookie,
            matched: Cow::Owned(MiniMatch::from(&matched)),
            actions: actions.into(),
        })
    }

    fn put_extension(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        let start = out.len() - 2;
        out.put_u16(self.event.to_wire().saturating_sub(1));
        out.put_u16(self.reason);
        out.put_u16(self.priority);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        let match_len_at = out.len();
        out.put_zeros(2);
        out.put_u8(self.table_id);
        out.put_zeros(1);
        out.put_u64(self.cookie);
        debug_assert_eq!(out.len() - start, FULL_LEN);
        let match_len = if target.version() == Version::Of13 {
            let match_len = target.put_oxm_match(out, &self.matched.expand());
            target.encoder(out).instructions(&self.actions);
            match_len
        } else {
            let match_len = target.put_nxm_match(out, &self.matched.expand(), 0, 0);
            target.encoder(out).actions(&self.actions);
            match_len
        };
        out.set_u16(match_len_at, len16(match_len));
    }
}

/// Encodes that monitors pause, or go on if `resumed` is set. An asynchronous message: `xid` is 0 in Open
/// vSwitch's.
#[must_use]
pub fn encode_pause(resumed: bool, version: Version, xid: u32) -> Vec<u8> {
    let form = match (version, resumed) {
        (Version::Of10 | Version::Of11 | Version::Of12, false) => Form::NxtFlowMonitorPaused,
        (Version::Of10 | Version::Of11 | Version::Of12, true) => Form::NxtFlowMonitorResumed,
        (Version::Of13, false) => Form::Onft13FlowMonitorPaused,
        (Version::Of13, true) => Form::Onft13FlowMonitorResumed,
        (Version::Of14 | Version::Of15, _) => Form::Ofpst14FlowMonitorReply,
    };
    let mut out = Vec::new();
    form.put(version, xid, &mut out, |out| {
        if form == Form::Ofpst14FlowMonitorReply {
            out.put_u16(len16(SHORT_LEN));
            out.put_u16(if resumed { RESUMED } else { PAUSED });
            out.put_zeros(4);
        }
    });
    out
}
