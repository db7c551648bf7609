//! Answers to the datapath's questions.

use crate::effects::{Effect, Passed};
use crate::fabric::Fabric;
use crate::megaflow::{Added, Megaflow};
use crate::rule::Count;
use crate::xlate::{self, Input, Translation};
use dpif::{
    Action, Actions, ControllerUserdata, Declined, DpifError, FlowStats, NewFlow, Ufid, Upcall,
    UpcallHandler, UpcallKind, UpcallReply, Userdata, Userspace,
};
use flow::{Mask, TlvTable};
use packet::Packet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl UpcallHandler for Fabric {
    fn upcall(&self, upcall: Upcall<'_>) -> UpcallReply {
        match upcall.kind {
            UpcallKind::Miss => {
                let now_ms = self.clock.now_ms();
                let t = self.translate_packet(&upcall, now_ms);
                self.reply(t, &upcall, now_ms, Wait::Yes)
            }
            UpcallKind::Action(Userdata::SlowPath(_)) => {
                let t = self.translate_packet(&upcall, self.clock.now_ms());
                UpcallReply { actions: Arc::new(t.actions), flow: None }
            }
            UpcallKind::Action(Userdata::Controller(ref note)) => {
                self.packet_in(note, upcall.packet, upcall.key);
                UpcallReply::default()
            }
            // Samplers are not built yet; their actions are never translated, so this is a stray.
            UpcallKind::Action(_) => UpcallReply::default(),
        }
    }

    fn try_upcall(&self, upcall: Upcall<'_>) -> Result<UpcallReply, Declined> {
        let UpcallKind::Miss = upcall.kind else { return Err(Declined::Heavy) };
        let now_ms = self.clock.now_ms();
        let t = self.try_translate(&upcall, now_ms)?;
        Ok(self.reply(t, &upcall, now_ms, Wait::No))
    }

    fn installed(&self, ufid: Ufid, pmd: Option<u32>, result: Result<(), DpifError>) {
        let id = (ufid, pmd);
        if result.is_ok() {
            self.megaflows.with(&id, |m| m.installed = true);
        } else if let Some(m) = self.megaflows.remove(&id) {
            self.release(m);
        }
    }
}

/// Whether the calling thread may wait for a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Yes,
    No,
}

/// What a packet owes to its translation.
fn passed(upcall: &Upcall<'_>, now_ms: u64) -> Passed {
    let count = Count { packets: 1, bytes: upcall.packet.len() as u64 };
    Passed { count, used_ms: now_ms, tcp_flags: upcall.key.tcp_flags }
}

impl Fabric {
    /// Translates for one packet and credits it.
    fn translate_packet(&self, upcall: &Upcall<'_>, now_ms: u64) -> Translation {
        let input = Input { key: upcall.key, packet: Some(upcall.packet), side_effects: true };
        let mut state = self.read();
        let mut t = xlate::translate(self, &state, input);
        if t.missed_lessons {
            drop(state);
            self.take_lessons(t);
            state = self.read();
            t = xlate::translate(self, &state, input);
        }
        let mut deferred = Vec::new();
        crate::effects::apply(&state, &t.effects, passed(upcall, now_ms), &mut deferred);
        self.deliver(&state, &t.sessions, upcall.packet, upcall.key.nw_ttl);
        drop(state);
        self.carry_out(deferred);
        self.keep_under_way(&t, upcall, now_ms);
        t.generation = t.generation.min(self.generation());
        t
    }

    /// As [`Fabric::translate_packet`], for a thread that may not wait. Translation changes nothing, so that it can be
    /// forgotten when it turns out to need more than a reader's lock.
    fn try_translate(&self, upcall: &Upcall<'_>, now_ms: u64) -> Result<Translation, Declined> {
        let input = Input { key: upcall.key, packet: Some(upcall.packet), side_effects: true };
        let state = self.try_read().ok_or(Declined::Busy)?;
        let t = xlate::translate(self, &state, input);
        if t.missed_lessons || !t.sessions.is_empty() || t.effects.iter().any(Effect::may_change_tables) {
            drop(state);
            self.recirc.retire(t.recircs, now_ms);
            return Err(Declined::Heavy);
        }
        let mut deferred = Vec::new();
        crate::effects::apply(&state, &t.effects, passed(upcall, now_ms), &mut deferred);
        drop(state);
        self.keep_under_way(&t, upcall, now_ms);
        Ok(t)
    }

    /// Packets under way need the frozen states even if no megaflow comes to hold them.
    fn keep_under_way(&self, t: &Translation, upcall: &Upcall<'_>, now_ms: u64) {
        if upcall.key.recirc_id == 0 || !t.recircs.is_empty() {
            self.recirc.retire(t.recircs.clone(), now_ms);
        }
    }

    /// The answer to a miss, which the switch remembers if it is to be installed.
    fn reply(&self, mut t: Translation, upcall: &Upcall<'_>, now_ms: u64, wait: Wait) -> UpcallReply {
        let id = (upcall.ufid, upcall.pmd);
        if !t.may_install || self.megaflows.len() as u64 >= self.knobs.flow_limit.load(Relaxed) {
            coverage::counter::upcall_flow_limit_hit.add(u64::from(t.may_install));
            return UpcallReply { actions: Arc::new(t.actions), flow: None };
        }
        // They stay.
        t.actions.shrink_to_fit();
        let install = install_actions(&t);
        let mask = self.install_mask(t.mask, upcall.key, &t.tlv);
        let megaflow = Megaflow {
            effects: t.effects.into_iter().filter(Effect::is_lasting).collect(),
            recircs: t.recircs,
            credited: FlowStats::default(),
            created_ms: now_ms,
            generation: t.generation,
            seen_round: self.rounds_done() + 1,
            installed: false,
        };
        let is_new = match wait {
            Wait::Yes => self.megaflows.add(id, megaflow),
            Wait::No => self.megaflows.try_add(id, megaflow) == Added::Yes,
        };
        self.end_rest();
        let actions = Arc::new(t.actions);
        let flow = is_new.then(|| {
            let actions = install.map_or_else(|| Arc::clone(&actions), Arc::new);
            NewFlow { mask, actions }
        });
        UpcallReply { actions, flow }
    }

    /// The mask to install: what was looked at, or everything if megaflows are switched off.
    pub(crate) fn install_mask(&self, mask: Mask, key: &flow::Flow, tlv: &TlvTable) -> Mask {
        let is_wide = self.knobs.megaflows.load(Relaxed);
        xlate::for_datapath(if is_wide { mask } else { xlate::exact_mask(key) }, key, tlv)
    }

    fn packet_in(&self, note: &ControllerUserdata, packet: &Packet, key: &flow::Flow) {
        if note.dont_send {
            return;
        }
        let Some(node) = self.recirc.get(note.recirc_id) else {
            coverage::counter::drop_action_no_recirculation_context.add(1);
            return;
        };
        self.async_queue.push(crate::async_event::packet_in(note, &node, packet, key));
    }
}

/// What the datapath does for a flow if that is not the actions themselves: handing each packet up.
pub(crate) fn install_actions(t: &Translation) -> Option<Actions> {
    if t.slow.is_empty() {
        return None;
    }
    let userdata = Userdata::SlowPath(t.slow);
    let up = Action::Userspace(Userspace { userdata, egress_tunnel_port: None, wants_actions: false });
    Some(vec![xlate::metered(t.slow_meter, up)])
}

#[cfg(test)]
#[path = "upcall_tests.rs"]
mod tests;
