//! What a controller asks of monitors.

use bitflags::bitflags;
use flow::MiniMatch;

use crate::context::{Context, Target, take_match, take_nxm_match};
use crate::form::{Form, Incoming};
use crate::msg::flow_mod::GROUP_ANY;
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
