//! Answers to the datapath's questions.

use crate::effects::{Effect, Passed};
use crate::fabric::Fabric;
use crate::megaflow::Megaflow;
use crate::rule::Count;
use crate::xlate::{self, Input, Translation};
use dpif::{
    Action, Actions, ControllerUserdata, DpFlow, DpifError, FlowStats, NewFlow, Upcall, UpcallHandler,
    UpcallKind, UpcallReply, Userdata, Userspace,
};
use flow::{Mask, TlvTable};
use packet::Packet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl UpcallHandler for Fabric {
    fn upcall(&self, upcall: Upcall<'_>) -> UpcallReply {
        match upcall.kind {
            UpcallKind::Miss => self.miss(upcall),
            UpcallKind::Action(Userdata::SlowPath(_)) => {
                let t = self.translate_packet(&upcall);
                UpcallReply { actions: t.actions, flow: None }
            }
            UpcallKind::Action(Userdata::Controller(ref note)) => {
                self.packet_in(note, upcall.packet, upcall.key);
                UpcallReply::default()
            }
            // Samplers are not built yet; their actions are never translated, so this is a stray.
            UpcallKind::Action(_) => UpcallReply::default(),
        }
    }

    fn installed(&self, flow: &DpFlow, result: Result<(), DpifError>) {
        let id = (flow.ufid, flow.pmd);
        if result.is_ok() {
            self.megaflows.with(&id, |m| m.installed = true);
        } else if let Some(m) = self.megaflows.remove(&id) {
            self.release(m);
        }
    }
}

impl Fabric {
    /// Translates for one packet and credits it.
    fn translate_packet(&self, upcall: &Upcall<'_>) -> Translation {
        let input = Input { key: upcall.key, packet: Some(upcall.packet), side_effects: true };
        let mut state = self.read();
        let mut t = xlate::translate(self, &state, input);
        if t.missed_lessons {
            drop(state);
            self.take_lessons(t);
            state = self.read();
            t = xlate::translate(self, &state, input);
        }
        let passed = Passed {
            count: Count { packets: 1, bytes: upcall.packet.len() as u64 },
            used_ms: self.clock.now_ms(),
            tcp_flags: upcall.key.tcp_flags,
        };
        let mut deferred = Vec::new();
        crate::effects::apply(&state, &t.effects, passed, &mut deferred);
        self.deliver(&state, &t.sessions, upcall.packet, upcall.key.nw_ttl);
        drop(state);
        self.carry_out(deferred);
        if upcall.key.recirc_id == 0 || !t.recircs.is_empty() {
            // Packets under way need the frozen states even if no megaflow comes to hold them.
            self.recirc.retire(t.recircs.clone(), passed.used_ms);
        }
        t.generation = t.generation.min(self.generation());
        t
    }

    fn miss(&self, upcall: Upcall<'_>) -> UpcallReply {
        let t = self.translate_packet(&upcall);
        let id = (upcall.ufid, upcall.pmd);
        if !t.may_install || self.megaflows.len() as u64 >= self.knobs.flow_limit.load(Relaxed) {
            coverage::counter::upcall_flow_limit_hit.add(u64::from(t.may_install));
            return UpcallReply { actions: t.actions, flow: None };
        }
        let actions = install_actions(&t);
        let mask = self.install_mask(t.mask, upcall.key, &t.tlv);
        let now_ms = self.clock.now_ms();
        let megaflow = Megaflow {
            key: Arc::new(upcall.key.clone()),
            mask: Arc::new(mask.clone()),
            actions: Arc::new(actions.clone()),
            effects: t.effects.into_iter().filter(Effect::is_lasting).collect(),
            recircs: t.recircs,
            credited: FlowStats::default(),
            created_ms: now_ms,
            generation: t.generation,
            seen_round: self.rounds_done() + 1,
            installed: false,
        };
        let new = self.megaflows.add(id, megaflow);
        UpcallReply { actions: t.actions, flow: new.then_some(NewFlow { mask, actions }) }
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

/// What the datapath does for a flow: the actions, or handing each packet up.
pub(crate) fn install_actions(t: &Translation) -> Actions {
    if t.slow.is_empty() {
        return t.actions.clone();
    }
    let userdata = Userdata::SlowPath(t.slow);
    let up = Action::Userspace(Userspace { userdata, egress_tunnel_port: None, wants_actions: false });
    vec![xlate::metered(t.slow_meter, up)]
}
