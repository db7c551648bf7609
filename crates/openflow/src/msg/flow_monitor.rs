//! Flow monitors: tell a controller how tables change. OpenFlow 1.4 and later; ONF's extension in 1.3,
//! Nicira's before.

use std::borrow::Cow;

use bitflags::bitflags;
use flow::MiniMatch;

use crate::action::Action;
use crate::context::{Context, Target, take_match, take_nxm_match};
use crate::form::{Form, Incoming};
use crate::msg::flow_mod::GROUP_ANY;
use crate::multipart::MultipartWriter;
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, PortNo, Version};

bitflags! {
    /// What to monitor, and what to say of it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct MonitorFlags: u16 {
        /// Flows that are there at the beginning.
        const INITIAL = 1 << 0;
        /// Flows that are added.
        const ADD = 1 << 1;
        /// Flows that are removed.
        const REMOVED = 1 << 2;
        /// Flows that are changed.
        const MODIFY = 1 << 3;
        /// Say what the flows do.
        const INSTRUCTIONS = 1 << 4;
        /// Say all of what the controller itself changes (OpenFlow 1.4+).
        const NO_ABBREV = 1 << 5;
        /// Only what the controller itself changes (OpenFlow 1.4+); before that, say all of it.
        const ONLY_OWN = 1 << 6;
    }
}

/// `NXFMF_OWN` and `ONFFMF_OWN`, which [`MonitorFlags::ONLY_OWN`] stands for.
const EXTENSION_OWN: u16 = 1 << 5;

impl MonitorFlags {
    const EVENTS: Self = Self::ADD.union(Self::REMOVED).union(Self::MODIFY);

    fn check(self) -> Result<Self, OfError> {
        if self.intersects(Self::EVENTS) { Ok(self) } else { Err(OfError::OfpmofcBadFlags) }
    }

    /// # Errors
    /// `OFPMOFC_BAD_FLAGS`. Open vSwitch does not know `NO_ABBREV`.
    fn from_wire(wire: u16) -> Result<Self, OfError> {
        match Self::from_bits(wire) {
            Some(flags) if !flags.contains(Self::NO_ABBREV) => flags.check(),
            _ => Err(OfError::OfpmofcBadFlags),
        }
    }

    fn from_extension(wire: u16) -> Result<Self, OfError> {
        let mut flags = Self::from_bits_truncate(wire & !EXTENSION_OWN);
        if wire & !EXTENSION_OWN & !(Self::INSTRUCTIONS.bits() * 2 - 1) != 0 {
            return Err(OfError::OfpmofcBadFlags);
        }
        flags.set(Self::ONLY_OWN, wire & EXTENSION_OWN != 0);
        flags.check()
    }

    const fn to_extension(self) -> u16 {
        let own = if self.contains(Self::ONLY_OWN) { EXTENSION_OWN } else { 0 };
        self.bits() & (Self::INSTRUCTIONS.bits() * 2 - 1) | own
    }
}

/// What to do with a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MonitorCommand {
    /// Begin it.
    Add,
    /// Change it.
    Modify,
    /// End it.
    Delete,
    /// One that is not known.
    Other(u8),
}

impl MonitorCommand {
    const fn from_wire(wire: u8) -> Self {
        match wire {
            0 => Self::Add,
            1 => Self::Modify,
            2 => Self::Delete,
            other => Self::Other(other),
        }
    }

    const fn to_wire(self) -> u8 {
        match self {
            Self::Add => 0,
            Self::Modify => 1,
            Self::Delete => 2,
            Self::Other(other) => other,
        }
    }
}

/// A request for a monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorRequest {
    /// The monitor, as the controller numbers it.
    pub id: u32,
    /// What to do with it; before OpenFlow 1.4 always to begin it.
    pub command: MonitorCommand,
    /// What to monitor, and what to say of it.
    pub flags: MonitorFlags,
    /// The flows must output to this port, [`PortNo::NONE`] for any.
    pub out_port: PortNo,
    /// The flows must output to this group, [`GROUP_ANY`] for any.
    pub out_group: u32,
    /// The table, 255 for all.
    pub table_id: u8,
    /// The flows must be at least as specific as this.
    pub matched: MiniMatch,
}

/// Decodes the requests in a message.
///
/// # Errors
/// `OFPMOFC_BAD_FLAGS`, `NXBRC_MUST_BE_ZERO`, `OFPBRC_BAD_LEN` and those of ports and matches.
pub fn decode_request(msg: &Incoming<'_>, context: &Context<'_>) -> Result<Vec<MonitorRequest>, OfError> {
    let mut r = msg.body();
    let mut requests = Vec::new();
    while !r.is_empty() {
        requests.push(match msg.form {
            Form::NxstFlowMonitorRequest => MonitorRequest::take_nicira(&mut r, context)?,
            Form::Onfst13FlowMonitorRequest => MonitorRequest::take_onf(&mut r, context)?,
            _ => MonitorRequest::take_of14(&mut r, context)?,
        });
    }
    Ok(requests)
}

/// Encodes a message with one request.
#[must_use]
pub fn encode_request(request: &MonitorRequest, target: &Target<'_>, xid: u32) -> Vec<u8> {
    let form = match target.version() {
        Version::Of10 | Version::Of11 | Version::Of12 => Form::NxstFlowMonitorRequest,
        Version::Of13 => Form::Onfst13FlowMonitorRequest,
        Version::Of14 | Version::Of15 => Form::Ofpst14FlowMonitorRequest,
    };
    let mut out = Vec::new();
    form.put(target.version(), xid, &mut out, |out| match form {
        Form::NxstFlowMonitorRequest => request.put_nicira(out, target),
        Form::Onfst13FlowMonitorRequest => request.put_onf(out, target),
        _ => request.put_of14(out, target),
    });
    out
}

impl MonitorRequest {
    fn take_nicira(r: &mut Reader<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        let id = r.u32()?;
        let flags = r.u16()?;
        let out_port = PortNo(r.u16()?);
        let match_len = usize::from(r.u16()?);
        let table_id = r.u8()?;
        let zeros = r.array()?;
        let flags = MonitorFlags::from_extension(flags)?;
        if zeros != [0; 5] {
            return Err(OfError::NxbrcMustBeZero);
        }
        let matched = MiniMatch::from(&take_nxm_match(r, match_len, context.match_options())?.matched);
        let command = MonitorCommand::Add;
        Ok(Self { id, command, flags, out_port, out_group: GROUP_ANY, table_id, matched })
    }

    fn put_nicira(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        out.put_u32(self.id);
        out.put_u16(self.flags.to_extension());
        out.put_u16(self.out_port.0);
        let match_len_at = out.len();
        out.put_zeros(2);
        out.put_u8(self.table_id);
        out.put_zeros(5);
        let match_len = target.put_nxm_match(out, &self.matched.expand(), 0, 0);
        out.set_u16(match_len_at, len16(match_len));
    }

    fn take_onf(r: &mut Reader<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        let id = r.u32()?;
        let flags = r.u16()?;
        r.skip(2)?;
        let out_port = r.u32()?;
        let table_id = r.u8()?;
        let zeros = r.array()?;
        let flags = MonitorFlags::from_extension(flags)?;
        if zeros != [0; 3] {
            return Err(OfError::NxbrcMustBeZero);
        }
        let out_port = PortNo::from_of11(out_port)?;
        let matched = MiniMatch::from(&take_match(r, context.match_options())?);
        let command = MonitorCommand::Add;
        Ok(Self { id, command, flags, out_port, out_group: GROUP_ANY, table_id, matched })
    }

    fn put_onf(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        out.put_u32(self.id);
        out.put_u16(self.flags.to_extension());
        let match_len_at = out.len();
        out.put_zeros(2);
        out.put_u32(self.out_port.to_of11());
        out.put_u8(self.table_id);
        out.put_zeros(3);
        let match_len = target.put_match(out, &self.matched.expand());
        out.set_u16(match_len_at, len16(match_len));
    }

    fn take_of14(r: &mut Reader<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        let id = r.u32()?;
        let out_port = r.u32()?;
        let out_group = r.u32()?;
        let flags = r.u16()?;
        let table_id = r.u8()?;
        let command = MonitorCommand::from_wire(r.u8()?);
        if command == MonitorCommand::Delete {
            let matched = MiniMatch::from(&take_match(r, context.match_options())?);
            let flags = MonitorFlags::empty();
            let out_port = PortNo::NONE;
            return Ok(Self { id, command, flags, out_port, out_group, table_id, matched });
        }
        let flags = MonitorFlags::from_wire(flags)?;
        let out_port = PortNo::from_of11(out_port)?;
        let matched = MiniMatch::from(&take_match(r, context.match_options())?);
        Ok(Self { id, command, flags, out_port, out_group, table_id, matched })
    }

    fn put_of14(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        out.put_u32(self.id);
        out.put_u32(self.out_port.to_of11());
        out.put_u32(self.out_group);
        out.put_u16(self.flags.bits());
        out.put_u8(self.table_id);
        out.put_u8(self.command.to_wire());
        target.put_match(out, &self.matched.expand());
    }
}

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

/// Lengths and numbers of updates.
mod update {
    pub const FULL_LEN: usize = 24;
    pub const SHORT_LEN: usize = 8;
    pub const ABBREVIATED: u16 = 4;
    pub const PAUSED: u16 = 5;
    pub const RESUMED: u16 = 6;
    /// `NXFME_ABBREV` and `ONFFME_ABBREV`
    pub const EXTENSION_ABBREVIATED: u16 = 3;
}

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
    if len < update::SHORT_LEN || !len.is_multiple_of(8) {
        return Err(OfError::OfpbrcBadLen);
    }
    let mut entry = r.sub(len)?;
    entry.skip(4)?;
    let is_of14 = msg.form == Form::Ofpst14FlowMonitorReply;
    let number = if is_of14 { wire_event } else { wire_event.saturating_add(1) };
    if number == update::ABBREVIATED && len == update::SHORT_LEN {
        return Ok(FlowUpdate::Abbreviated(entry.u32()?));
    }
    match (is_of14, number) {
        (true, update::PAUSED) if len == update::SHORT_LEN => Ok(FlowUpdate::Paused),
        (true, update::RESUMED) if len == update::SHORT_LEN => Ok(FlowUpdate::Resumed),
        (_, update::ABBREVIATED) | (true, update::PAUSED | update::RESUMED) => Err(OfError::OfpbrcBadLen),
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
                out.put_u16(if is_of14 { update::ABBREVIATED } else { update::EXTENSION_ABBREVIATED });
                out.put_u32(*xid);
            }
            Self::Paused => {
                out.put_u16(update::PAUSED);
                out.put_zeros(4);
            }
            Self::Resumed => {
                out.put_u16(update::RESUMED);
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
        debug_assert_eq!(out.len() - start, update::FULL_LEN);
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

/// Decodes a request to end a monitor, before OpenFlow 1.4.
///
/// # Errors
/// None once [`crate::identify`] has taken the message.
pub fn decode_cancel(msg: &Incoming<'_>) -> Result<u32, OfError> {
    Ok(msg.body().u32()?)
}

/// Encodes a request to end the monitor `id`, for versions before 1.4; later ones have
/// [`MonitorCommand::Delete`].
#[must_use]
pub fn encode_cancel(id: u32, version: Version, xid: u32) -> Option<Vec<u8>> {
    let form = match version {
        Version::Of10 | Version::Of11 | Version::Of12 => Form::NxtFlowMonitorCancel,
        Version::Of13 => Form::Onft13FlowMonitorCancel,
        Version::Of14 | Version::Of15 => return None,
    };
    let mut out = Vec::new();
    form.put(version, xid, &mut out, |out| out.put_u32(id));
    Some(out)
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
            out.put_u16(len16(update::SHORT_LEN));
            out.put_u16(if resumed { update::RESUMED } else { update::PAUSED });
            out.put_zeros(4);
        }
    });
    out
}
