//! Bundles: messages that are carried out together or not at all (OpenFlow 1.4, 6.9).
//!
//! A commit applies all flow-mods under one writer's lock, so no translation sees a part of them. If one
//! fails, those before it are taken back and it is answered as it would have been alone; then the commit
//! fails, too.

use super::packet_out::{self, Ready, Translated};
use super::{Cx, flow_mods, groups, ports};
use crate::conn::announce::News;
use crate::conn::monitor::Changes;
use crate::flow_mod::{Change, Command};
use crate::groups::GroupChange;
use crate::switch::State;
use bytes::Bytes;
use openflow::msg::bundle::{BundleAdd, BundleControl, BundleFlags, ctrl};
use openflow::msg::group_mod::GroupMod;
use openflow::msg::port_mod::PortMod;
use openflow::{Incoming, MsgType, OfError};
use std::collections::HashMap;

/// Bundles that a connection may have open.
pub const BUNDLES_MAX: usize = 1024;
/// Messages in one bundle.
pub const MESSAGES_MAX: usize = 4 << 20;
/// A bundle to which nothing is added ends after so long (`other_config:bundle-idle-timeout`).
pub const IDLE_TIMEOUT_MS: u64 = 10_000;

type Result<T = ()> = std::result::Result<T, OfError>;

/// A message of a bundle, as far as it can be prepared.
enum Step {
    Flow(Box<Change>),
    Port(PortMod),
    Group(Box<GroupMod>, u32),
    PacketOut(Box<Ready>),
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Step::Flow(_) => "Flow",
            Step::Port(_) => "Port",
            Step::Group(..) => "Group",
            Step::PacketOut(_) => "PacketOut",
        })
    }
}

/// A bundle under construction.
#[derive(Debug)]
struct Bundle {
    flags: BundleFlags,
    closed: bool,
    used_ms: u64,
    /// The message that began it, to answer if it times out.
    first: Bytes,
    /// What to do, and the message that says so.
    steps: Vec<(Step, Box<[u8]>)>,
}

/// The bundles of a connection.
#[derive(Debug, Default)]
pub struct Bundles(HashMap<u32, Bundle>);

impl Bundles {
    /// Forgets those that nobody has added to for too long; returns the messages that began them.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Bytes> {
        let is_stale = |b: &Bundle| now_ms >= b.used_ms + IDLE_TIMEOUT_MS;
        let stale: Vec<_> = self.0.iter().filter(|(_, b)| is_stale(b)).map(|(id, _)| *id).collect();
        stale.into_iter().filter_map(|id| self.0.remove(&id)).map(|b| b.first).collect()
    }

    fn open(&mut self, id: u32, flags: BundleFlags, first: &[u8], now_ms: u64) -> Result<&mut Bundle> {
        if self.0.len() >= BUNDLES_MAX {
            return Err(OfError::OfpbfcOutOfBundles);
        }
        let first = Bytes::copy_from_slice(first);
        let new = Bundle { flags, closed: false, used_ms: now_ms, first, steps: Vec::new() };
        Ok(self.0.entry(id).or_insert(new))
    }

    /// The bundle, if more may be added to it with these flags; otherwise it is gone.
    fn check(&mut self, id: u32, flags: BundleFlags) -> Result {
        let Some(bundle) = self.0.get(&id) else { return Err(OfError::OfpbfcBadId) };
        let error = match bundle {
            b if b.closed => OfError::OfpbfcBundleClosed,
            b if b.flags != flags => OfError::OfpbfcBadFlags,
            _ => return Ok(()),
        };
        self.0.remove(&id);
        Err(error)
    }
}

pub fn control(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    cx.conn.check_may_write()?;
    let request = BundleControl::decode(msg)?;
    let (id, flags) = (request.bundle_id, request.flags);
    let now_ms = cx.env.now_ms();
    let bundles = &mut cx.conn.bundles;
    match request.ctrl_type {
        ctrl::OPEN_REQUEST => {
            if bundles.0.remove(&id).is_some() {
                return Err(OfError::OfpbfcBadId);
            }
            bundles.open(id, flags, msg.bytes, now_ms)?;
        }
        ctrl::CLOSE_REQUEST => {
            bundles.check(id, flags)?;
            if let Some(bundle) = bundles.0.get_mut(&id) {
                (bundle.closed, bundle.used_ms) = (true, now_ms);
            }
        }
        ctrl::COMMIT_REQUEST => commit(cx, id, flags)?,
        ctrl::DISCARD_REQUEST => {
            bundles.0.remove(&id).ok_or(OfError::OfpbfcBadId)?;
        }
        t if t <= ctrl::DISCARD_REPLY => return Err(OfError::OfpbfcBadType),
        // Open vSwitch answers types that it does not know as if it did.
        _ => {}
    }
    let ctrl_type = if request.ctrl_type > ctrl::DISCARD_REPLY { 0 } else { request.reply().ctrl_type };
    let reply = BundleControl { flags: BundleFlags::empty(), ctrl_type, ..request };
    if let Some(reply) = reply.encode(msg.version, msg.header.xid) {
        cx.conn.reply(reply);
    }
    Ok(())
}

pub fn add(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    cx.conn.check_may_write()?;
    let (add, inner) = BundleAdd::decode(msg)?;
    let step = prepare(cx, &inner)?;
    let now_ms = cx.env.now_ms();
    let bundles = &mut cx.conn.bundles;
    match bundles.check(add.bundle_id, add.flags) {
        Err(OfError::OfpbfcBadId) => {
            bundles.open(add.bundle_id, add.flags, msg.bytes, now_ms)?;
        }
        other => other?,
    }
    let bundle = bundles.0.get_mut(&add.bundle_id).ok_or(OfError::OfpbfcBadId)?;
    if bundle.steps.len() >= MESSAGES_MAX {
        return Err(OfError::OfpbfcMsgTooMany);
    }
    bundle.used_ms = now_ms;
    bundle.steps.push((step, msg.bytes.into()));
    Ok(())
}

fn prepare(cx: &Cx<'_>, msg: &Incoming<'_>) -> Result<Step> {
    Ok(match msg.msg_type() {
        MsgType::FlowMod => Step::Flow(Box::new(flow_mods::decode(cx, msg)?)),
        MsgType::PortMod => Step::Port(PortMod::decode(msg)?),
        MsgType::GroupMod => Step::Group(Box::new(GroupMod::decode(msg, &cx.context())?), msg.header.xid),
        MsgType::PacketOut => {
            coverage::counter::ofproto_packet_out.inc();
            Step::PacketOut(Box::new(packet_out::prepare(cx, msg)?))
        }
        _ => return Err(OfError::OfpbfcMsgUnsup),
    })
}

/// A group-mod with its transaction id, if others want to know of it, and what it did.
type GroupDone = (Option<(GroupMod, u32)>, Vec<GroupChange>);

/// What a commit has done so far.
#[derive(Default)]
struct Done {
    /// Flow-mods, and what they and group-mods did to rules.
    mods: Vec<(Option<Command>, Changes)>,
    news: Vec<News>,
    port_mods: Vec<PortMod>,
    groups: Vec<GroupDone>,
    packets: Vec<Translated>,
}

fn commit(cx: &mut Cx<'_>, id: u32, flags: BundleFlags) -> Result {
    let bundle = cx.conn.bundles.0.remove(&id).ok_or(OfError::OfpbfcBadId)?;
    if bundle.flags != flags {
        return Err(OfError::OfpbfcBadFlags);
    }
    let now_ms = cx.env.now_ms();
    let mut done = Done::default();
    let failed = {
        let mut state = cx.env.fabric.write();
        let failed = apply_all(cx, &mut state, bundle.steps, flags, &mut done);
        if failed.is_some()
            && let Ok(switch) = state.switch_mut(cx.agent.id)
        {
            done.mods.iter().rev().for_each(|(_, c)| switch.undo(&c.events));
            done.groups.drain(..).rev().for_each(|(_, changes)| switch.undo_groups(changes));
        }
        failed
    };
    if let Some((message, error)) = failed {
        cx.conn.send_error(error, &message);
        return Err(OfError::OfpbfcMsgFailed);
    }
    if !done.mods.is_empty() || !done.groups.is_empty() {
        cx.env.fabric.changed();
    }
    let note = |(command, changes): (Option<Command>, Changes)| {
        command.into_iter().for_each(|c| cx.conn.mods.note(flow_mods::kind_of(c), now_ms));
        changes
    };
    let changes = done.mods.into_iter().map(note).collect();
    cx.agent.tell_changes(cx.env, Some(cx.conn), changes, now_ms);
    cx.agent.news.extend(done.news);
    for (request, changes) in done.groups {
        if let Some((gm, xid)) = request {
            groups::tell(cx, gm, xid, &changes);
        }
    }
    for pm in done.port_mods {
        // The port was there a moment ago; one that has gone since needs no change.
        let _ = ports::carry_out(cx, &pm);
    }
    done.packets.into_iter().for_each(|p| packet_out::execute(cx, p));
    Ok(())
}

/// Does one step after the other; stops at the first that fails and returns its message.
fn apply_all(
    cx: &Cx<'_>,
    state: &mut State,
    steps: Vec<(Step, Box<[u8]>)>,
    flags: BundleFlags,
    done: &mut Done,
) -> Option<(Box<[u8]>, OfError)> {
    for (step, message) in steps {
        if let Err(e) = apply_one(cx, state, step, &message, flags, done) {
            return Some((message, e));
        }
    }
    None
}

fn apply_one(
    cx: &Cx<'_>,
    state: &mut State,
    step: Step,
    message: &[u8],
    flags: BundleFlags,
    done: &mut Done,
) -> Result {
    let no_switch = |_| OfError::OfpfmfcUnknown;
    match step {
        Step::Flow(change) => {
            let switch = state.switch_mut(cx.agent.id).map_err(no_switch)?;
            let events = switch.apply(&change, cx.env.now_ms())?;
            done.news.extend(flow_mods::table_news(switch, &events));
            done.mods.push((Some(change.command), flow_mods::changes(message, change.command, events)));
        }
        // Changing a port cannot be taken back.
        Step::Port(_) if flags.contains(BundleFlags::ATOMIC) => return Err(OfError::OfpbfcMsgFailed),
        Step::Port(pm) => {
            let port = state.switch(cx.agent.id).and_then(|s| s.port(pm.port));
            let port = port.ok_or(OfError::OfppmfcBadPort)?;
            if port.link.mac != pm.hw_addr {
                return Err(OfError::OfppmfcBadHwAddr);
            }
            done.port_mods.push(pm);
        }
        Step::Group(gm, xid) => {
            let switch = state.switch_mut(cx.agent.id).map_err(no_switch)?;
            let (changes, events) = switch.apply_group(&gm, cx.env.now_ms())?;
            done.news.extend(flow_mods::table_news(switch, &events));
            if !events.is_empty() {
                done.mods.push((None, Changes { xid, by_add: false, events }));
            }
            done.groups.push((cx.agent.forwards_requests().then_some((*gm, xid)), changes));
        }
        Step::PacketOut(ready) => done.packets.push(packet_out::translate(cx, state, *ready)?),
    }
    Ok(())
}
