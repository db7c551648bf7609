//! `OFPT_FLOW_MOD` and `NXT_FLOW_MOD`: change flow tables.

use flow::{Match, MiniMatch, eth_type, oxm};

use crate::action::Action;
use crate::context::{Context, Target, check_actions, take_match, take_nxm_match, take_of10_match};
use crate::form::{Form, Incoming};
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, PortNo, Protocol, Version};

mod flags;

pub use flags::{FlowFlags, FlowModCommand};

/// `OFPTT_ALL`: all tables, in OpenFlow 1.0 without table ids whichever the switch chooses.
pub const TABLE_ALL: u8 = 0xff;
/// `OFPG_ANY`
pub const GROUP_ANY: u32 = 0xffff_ffff;
/// No packet is buffered: all there is in Open vSwitch.
pub const NO_BUFFER: u32 = 0xffff_ffff;
/// `new_cookie` that leaves cookies as they are.
pub const COOKIE_KEEP: u64 = u64::MAX;

/// A flow-mod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowMod {
    /// What to do.
    pub command: FlowModCommand,
    /// In which table; [`TABLE_ALL`] for all, or where the protocol has no table ids.
    pub table_id: u8,
    /// Which packets the flow is for, or which flows to change.
    pub matched: MiniMatch,
    /// The flow's priority; of no account for commands that are not strict.
    pub priority: u16,
    /// Change only flows whose cookie has these bits where `cookie_mask` is set.
    pub cookie: u64,
    /// Which bits of `cookie` count.
    pub cookie_mask: u64,
    /// The new cookie.
    pub new_cookie: u64,
    /// Whether flows that are changed get `new_cookie`.
    pub modify_cookie: bool,
    /// Seconds without packets after which the flow goes, 0 for never.
    pub idle_timeout: u16,
    /// Seconds after which the flow goes, 0 for never.
    pub hard_timeout: u16,
    /// The buffered packet to send through the flow, [`NO_BUFFER`] for none.
    pub buffer_id: u32,
    /// Delete only flows that output to this port, [`PortNo::NONE`] for all.
    pub out_port: PortNo,
    /// Delete only flows that output to this group, [`GROUP_ANY`] for all.
    pub out_group: u32,
    /// Flags.
    pub flags: FlowFlags,
    /// Flows of lower importance are evicted first (OpenFlow 1.4+).
    pub importance: u16,
    /// What to do with packets.
    pub actions: Vec<Action>,
    /// Bit `i`: `actions` name `tun_metadata<i>`.
    pub tlv_used: u64,
}

/// The parts of a flow-mod before its match and after, as far as they differ between forms.
struct Parts {
    command: u16,
    table_id: Option<u8>,
    cookie: u64,
    cookie_mask: u64,
    new_cookie: u64,
    modify_cookie: bool,
    priority: u16,
    idle_timeout: u16,
    hard_timeout: u16,
    buffer_id: u32,
    out_port: PortNo,
    out_group: u32,
    flags: u16,
    importance: u16,
}

impl FlowMod {
    /// A flow-mod that does `command` to flows that match `m` in all tables, with everything else at its
    /// default.
    #[must_use]
    pub fn new(command: FlowModCommand, m: &Match, priority: u16) -> Self {
        Self {
            command,
            table_id: TABLE_ALL,
            matched: MiniMatch::from(m),
            priority,
            cookie: 0,
            cookie_mask: 0,
            new_cookie: if command == FlowModCommand::Add { 0 } else { COOKIE_KEEP },
            modify_cookie: false,
            idle_timeout: 0,
            hard_timeout: 0,
            buffer_id: NO_BUFFER,
            out_port: PortNo::NONE,
            out_group: GROUP_ANY,
            flags: FlowFlags::empty(),
            importance: 0,
            actions: Vec::new(),
            tlv_used: 0,
        }
    }

    /// Decodes a flow-mod. A match in the way of OpenFlow 1.0 is normalized.
    ///
    /// # Errors
    /// Whatever can be wrong with matches, instructions and flow-mods. `OFPFMFC_BAD_EMERG_TIMEOUT` and
    /// `OFPFMFC_TABLE_FULL` answer flow-mods for emergencies.
    pub fn decode(msg: &Incoming<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let (parts, m) = match msg.form {
            Form::Ofpt11FlowMod => Parts::take_of11(&mut r, msg.version, context)?,
            Form::Ofpt10FlowMod => Parts::take_of10(&mut r)?,
            _ => Parts::take_nxm(&mut r, context)?,
        };
        check_ct_match(&m)?;
        let (command, table_id) = parts.command(context.protocol)?;
        let mut decoder = context.decoder(msg.version);
        let mut actions = decoder.instructions(r.rest())?;
        let tlv_used = decoder.tlv_used;
        let flags = parts.flags(command, msg.version)?;
        check_actions(&mut actions, &m, table_id, context)?;
        Ok(Self {
            command,
            table_id,
            matched: MiniMatch::from(&m),
            priority: parts.priority,
            cookie: parts.cookie,
            cookie_mask: parts.cookie_mask,
            new_cookie: parts.new_cookie,
            modify_cookie: parts.modify_cookie,
            idle_timeout: parts.idle_timeout,
            hard_timeout: parts.hard_timeout,
            buffer_id: parts.buffer_id,
            out_port: parts.out_port,
            out_group: parts.out_group,
            flags,
            importance: parts.importance,
            actions,
            tlv_used,
        })
    }

    /// Encodes a flow-mod.
    #[must_use]
    pub fn encode(&self, target: &Target<'_>, xid: u32) -> Vec<u8> {
        let m = self.matched.expand();
        let mut out = Vec::with_capacity(192);
        let version = target.version();
        match target.protocol {
            Protocol::Of10Std | Protocol::Of10StdTid => {
                Form::Ofpt10FlowMod.put(version, xid, &mut out, |out| self.put_of10(out, &m, target));
            }
            Protocol::Of10Nxm | Protocol::Of10NxmTid => {
                Form::NxtFlowMod.put(version, xid, &mut out, |out| self.put_nxm(out, &m, target));
            }
            _ => {
                Form::Ofpt11FlowMod.put(version, xid, &mut out, |out| self.put_of11(out, &m, target));
            }
        }
        out
    }

    fn put_of11(&self, out: &mut Vec<u8>, m: &Match, target: &Target<'_>) {
        let version = target.version();
        let is_add = self.command == FlowModCommand::Add;
        let is_of11 = version == Version::Of11;
        let sets_cookie = is_add || is_of11 && self.command.is_modify() && self.cookie_mask == 0;
        out.put_u64(if sets_cookie { self.new_cookie } else { self.cookie & self.cookie_mask });
        out.put_u64(self.cookie_mask);
        let may_be_all = !is_of11 && self.command.is_delete();
        out.put_u8(if self.table_id != TABLE_ALL || may_be_all { self.table_id } else { 0 });
        out.put_u8(self.command as u8);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u16(self.priority);
        out.put_u32(self.buffer_id);
        out.put_u32(self.out_port.to_of11());
        out.put_u32(self.out_group);
        out.put_u16(self.flags.to_wire(version));
        out.put_u16(if version >= Version::Of14 && is_add { self.importance } else { 0 });
        target.put_match(out, m);
        target.encoder(out).instructions(&self.actions);
    }

    fn put_of10(&self, out: &mut Vec<u8>, m: &Match, target: &Target<'_>) {
        out.put_bytes(&flow::legacy::encode_ofp10(m));
        out.put_u64(self.new_cookie);
        out.put_u16(self.of10_command(target.protocol));
        self.put_of10_middle(out);
        target.encoder(out).actions(&self.actions);
    }

    fn put_nxm(&self, out: &mut Vec<u8>, m: &Match, target: &Target<'_>) {
        out.put_u64(self.new_cookie);
        out.put_u16(self.of10_command(target.protocol));
        self.put_of10_middle(out);
        let match_len_at = out.len();
        out.put_zeros(8);
        let match_len = target.put_nxm_match(out, m, self.cookie, self.cookie_mask);
        out.set_u16(match_len_at, len16(match_len));
        target.encoder(out).actions(&self.actions);
    }

    /// What follows the command in both flow-mods of OpenFlow 1.0.
    fn put_of10_middle(&self, out: &mut Vec<u8>) {
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u16(self.priority);
        out.put_u32(self.buffer_id);
        out.put_u16(self.out_port.0);
        out.put_u16(self.flags.to_wire(Version::Of10));
    }

    fn of10_command(&self, protocol: Protocol) -> u16 {
        let table = if protocol.has_table_id() { u16::from(self.table_id) << 8 } else { 0 };
        table | self.command as u16
    }
}

impl Parts {
    fn take_of11(
        r: &mut Reader<'_>,
        version: Version,
        context: &Context<'_>,
    ) -> Result<(Self, Match), OfError> {
        let cookie = r.u64()?;
        let cookie_mask = r.u64()?;
        let table_id = r.u8()?;
        let command = r.u8()?;
        let idle_timeout = r.u16()?;
        let hard_timeout = r.u16()?;
        let priority = r.u16()?;
        let buffer_id = r.u32()?;
        let out_port = r.u32()?;
        let out_group = r.u32()?;
        let flags = r.u16()?;
        let importance = r.u16()?;
        let m = take_match(r, context.match_options())?;

        let is = |c: FlowModCommand| command == c as u8;
        let is_add = is(FlowModCommand::Add);
        let is_delete = is(FlowModCommand::Delete) || is(FlowModCommand::DeleteStrict);
        let is_modify = is(FlowModCommand::Modify) || is(FlowModCommand::ModifyStrict);
        if table_id == TABLE_ALL && (version == Version::Of11 || !is_delete) {
            return Err(OfError::OfpfmfcBadTableId);
        }
        // In OpenFlow 1.1 a modify without a mask for cookies sets them.
        let sets_cookie = is_add || version == Version::Of11 && is_modify && cookie_mask == 0;
        let (cookie, cookie_mask, new_cookie) =
            if sets_cookie { (0, 0, cookie) } else { (cookie, cookie_mask, COOKIE_KEEP) };
        let parts = Self {
            command: command.into(),
            table_id: Some(table_id),
            cookie,
            cookie_mask,
            new_cookie,
            modify_cookie: false,
            priority,
            idle_timeout,
            hard_timeout,
            buffer_id,
            out_port: PortNo::from_of11(out_port)?,
            out_group: if is_delete { out_group } else { GROUP_ANY },
            flags,
            importance: if version >= Version::Of14 && is_add { importance } else { 0 },
        };
        Ok((parts, m))
    }

    fn take_of10(r: &mut Reader<'_>) -> Result<(Self, Match), OfError> {
        let wildcards = { *r }.u32()?;
        let mut m = take_of10_match(r)?;
        m.normalize();
        let new_cookie = r.u64()?;
        let command = r.u16()?;
        let mut parts = Self::take_of10_middle(r, new_cookie, command)?;
        if wildcards & OF10_WILDCARDS == 0 {
            parts.priority = u16::MAX;
        }
        Ok((parts, m))
    }

    fn take_nxm(r: &mut Reader<'_>, context: &Context<'_>) -> Result<(Self, Match), OfError> {
        let new_cookie = r.u64()?;
        let command = r.u16()?;
        let mut parts = Self::take_of10_middle(r, new_cookie, command)?;
        let match_len = usize::from(r.u16()?);
        r.skip(6)?;
        let options = oxm::Options { allow_cookie: true, ..context.match_options() };
        let decoded = take_nxm_match(r, match_len, options)?;
        if command & 0xff == FlowModCommand::Add as u16 && decoded.cookie_mask != 0 {
            return Err(OfError::NxbrcNxmInvalid);
        }
        parts.cookie = decoded.cookie;
        parts.cookie_mask = decoded.cookie_mask;
        Ok((parts, decoded.matched))
    }

    /// What follows the command in both flow-mods of OpenFlow 1.0.
    fn take_of10_middle(r: &mut Reader<'_>, new_cookie: u64, command: u16) -> Result<Self, OfError> {
        Ok(Self {
            command,
            table_id: None,
            cookie: 0,
            cookie_mask: 0,
            new_cookie,
            modify_cookie: new_cookie != COOKIE_KEEP,
            idle_timeout: r.u16()?,
            hard_timeout: r.u16()?,
            priority: r.u16()?,
            buffer_id: r.u32()?,
            out_port: PortNo(r.u16()?),
            out_group: GROUP_ANY,
            flags: r.u16()?,
            importance: 0,
        })
    }

    /// The command, and the table, which in OpenFlow 1.0 stands in the command's high byte if at all.
    fn command(&self, protocol: Protocol) -> Result<(FlowModCommand, u8), OfError> {
        let (command, table_id) = match self.table_id {
            Some(table_id) => (self.command, table_id),
            None if protocol.has_table_id() => (self.command & 0xff, (self.command >> 8) as u8),
            None => (self.command, TABLE_ALL),
        };
        Ok((FlowModCommand::from_wire(command)?, table_id))
    }

    fn flags(&self, command: FlowModCommand, version: Version) -> Result<FlowFlags, OfError> {
        let mut flags = FlowFlags::from_wire(self.flags, version)?;
        if version <= Version::Of11 && command == FlowModCommand::Add {
            flags |= FlowFlags::RESET_COUNTS;
        }
        if flags.contains(FlowFlags::EMERG) {
            let has_timeout = self.hard_timeout != 0 || self.idle_timeout != 0;
            return Err(if has_timeout {
                OfError::OfpfmfcBadEmergTimeout
            } else {
                OfError::OfpfmfcTableFull
            });
        }
        Ok(flags)
    }
}

/// `OFPFW10_ALL`: with none of these bits a flow is for exactly one kind of packet, and of highest priority.
const OF10_WILDCARDS: u32 = (1 << 22) - 1;

/// Addresses of a tracked connection are of the packet's own layer 3 protocol.
fn check_ct_match(m: &Match) -> Result<(), OfError> {
    let ipv4 = m.mask.ct_nw_src != 0 || m.mask.ct_nw_dst != 0;
    let ipv6 = !m.mask.ct_ipv6_src.is_zero() || !m.mask.ct_ipv6_dst.is_zero();
    if ipv4 && m.flow.dl_type != eth_type::IPV4 || ipv6 && m.flow.dl_type != eth_type::IPV6 {
        return Err(OfError::OfpbacMatchInconsistent);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
