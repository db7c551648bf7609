//! Keeps every megaflow equal to what translation would say now.
//!
//! A round walks the datapath's flows: credits what passed, drops what nobody used for long, and, where
//! something has changed since the megaflow was translated, translates anew. A megaflow whose actions
//! changed is changed in place; one whose mask would be different goes, and comes back with the next packet.

use crate::effects::Effect;
use crate::fabric::Fabric;
use crate::megaflow::{Megaflow, MegaflowId};
use crate::revalidators::Crew;
use crate::upcall::install_actions;
use crate::xlate::{self, Input, Translation};
use dpif::{DpFlow, PutMode};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The dynamic flow limit never goes below this.
const FLOW_LIMIT_MIN: usize = 1_000;
/// How often the thread looks at the clock: a stopped or warped clock must not make it sleep on.
const TICK_MS: u64 = 20;
/// How often it looks at all while there is nothing to look after.
const REST_MS: u64 = 250;
/// Time that a re-translation is assumed to save: a flow with fewer packets is cheaper to delete.
const FEW: u64 = 2;

/// What a round decided about one flow.
enum Verdict {
    Keep,
    Delete,
    /// The same packets, other actions.
    Change(Box<Translation>),
}

impl Fabric {
    /// The life of the first revalidator thread, whom the others help. Ends when told to stop.
    pub(crate) fn revalidate_forever(self: &Arc<Self>, crew: &Crew) {
        let mut last_ms = self.clock.now_ms();
        let mut last_generation = 0;
        loop {
            let order = self.next_order(TICK_MS, REST_MS);
            if order.stop {
                return;
            }
            if order.purge {
                self.purge();
                continue;
            }
            if order.paused {
                continue;
            }
            let (now_ms, generation) = (self.clock.now_ms(), self.generation());
            let due = now_ms >= last_ms + self.knobs.max_revalidator_ms.load(Relaxed);
            self.note_mac_changes();
            if due || generation != last_generation || order.asked > order.done {
                (last_ms, last_generation) = (now_ms, generation);
                self.round_with(crew);
                self.recirc.run(now_ms);
                self.underlay.expire(now_ms);
            }
        }
    }

    /// A MAC table that learned or moved something makes megaflows of NORMAL out of date.
    fn note_mac_changes(&self) {
        let moved = self.read().switches.values().any(|s| s.macs_changed.swap(false, Relaxed));
        if moved {
            self.changed();
        }
    }

    /// One round over all flows.
    pub fn round(self: &Arc<Self>) {
        self.round_with(&Crew::default());
    }

    /// One round, shared with the other threads.
    fn round_with(self: &Arc<Self>, crew: &Crew) {
        let begin = Instant::now();
        let flows = self.dpif.flow_dump();
        let dumped = flows.len();
        let round = self.rounds_done() + 1;
        let over = dumped > self.dpif.flow_limit();
        let max_idle_ms = if over { 100 } else { self.knobs.max_idle_ms.load(Relaxed) };
        let fabric = Arc::clone(self);
        crew.share(flows, move |flows| fabric.revalidate_some(flows, round, max_idle_ms));
        // What the datapath no longer has, we need not remember.
        for id in self.megaflows.select(|m| m.is_gone(round)) {
            if let Some(m) = self.megaflows.remove(&id) {
                self.release(m);
            }
        }
        self.adapt_limit(dumped, begin.elapsed());
        self.round_ended();
    }

    fn revalidate_some(&self, flows: &[DpFlow], round: u64, max_idle_ms: u64) {
        let now_ms = self.clock.now_ms();
        let is_over = |flow: &&DpFlow| !self.revalidate(flow, round, now_ms, max_idle_ms);
        let over: Vec<MegaflowId> = flows.iter().filter(is_over).map(|f| (f.ufid, f.pmd)).collect();
        self.delete(over);
    }

    /// Credits what passed, and makes the flow what it should be. Returns `false` if it should not be there.
    fn revalidate(&self, flow: &DpFlow, round: u64, now_ms: u64, max_idle_ms: u64) -> bool {
        let id = (flow.ufid, flow.pmd);
        let taken = self.megaflows.with(&id, |m| {
            m.seen_round = round;
            m.installed = true;
            let passed = m.take_delta(&flow.stats);
            let effects = (passed.count.packets > 0).then(|| Arc::clone(&m.effects));
            (effects, passed, m.generation, m.used_ms(&flow.stats))
        });
        let Some((effects, passed, generation, used_ms)) = taken else {
            // Somebody else's (`dpctl/add-flow`), or left over: translation decides whether it is right.
            return self.adopt(flow, id, round);
        };
        if let Some(effects) = effects {
            self.credit(&effects, passed);
        }
        let verdict = if now_ms >= used_ms + max_idle_ms {
            Verdict::Delete
        } else if generation == self.generation() {
            Verdict::Keep
        } else {
            self.judge(flow)
        };
        match verdict {
            Verdict::Keep => true,
            Verdict::Delete => false,
            Verdict::Change(t) => self.change(flow, id, *t),
        }
    }

    /// Translates a flow's key anew and compares.
    fn judge(&self, flow: &DpFlow) -> Verdict {
        let state = self.read();
        let t = xlate::translate(self, &state, Input { key: &flow.key, packet: None, side_effects: false });
        drop(state);
        if !t.may_install {
            self.recirc.retire(t.recircs, self.clock.now_ms());
            return Verdict::Delete;
        }
        let mask = self.install_mask(t.mask.clone(), &flow.key, &t.tlv);
        // A flow wider than translation's look is wrong; one that is narrower is right but may now be a
        // waste: both are made again, so that the datapath's masks stay few.
        if mask == *flow.mask {
            return Verdict::Change(Box::new(t));
        }
        self.recirc.retire(t.recircs, self.clock.now_ms());
        Verdict::Delete
    }

    /// Makes a flow what a translation says; `false` if it should go instead.
    fn change(&self, flow: &DpFlow, id: MegaflowId, t: Translation) -> bool {
        let actions = install_actions(&t).unwrap_or(t.actions);
        if actions != *flow.actions {
            let mode = PutMode::Modify;
            let put = self.dpif.flow_put(mode, Some(flow.ufid), &flow.key, &flow.mask, &actions, flow.pmd);
            if put.is_err() {
                self.recirc.retire(t.recircs, self.clock.now_ms());
                return false;
            }
        }
        let old = self.megaflows.with(&id, |m| {
            m.generation = t.generation;
            m.effects = t.effects.into_iter().filter(Effect::is_lasting).collect();
            std::mem::replace(&mut m.recircs, t.recircs)
        });
        self.recirc.retire(old.unwrap_or_default(), self.clock.now_ms());
        true
    }

    /// Takes a flow that we did not install under our care; `false` if it should go.
    fn adopt(&self, flow: &DpFlow, id: MegaflowId, round: u64) -> bool {
        if flow.stats.packets <= FEW && flow.stats.used_ms.is_some() {
            return false;
        }
        let megaflow = Megaflow {
            effects: Arc::default(),
            recircs: Vec::new(),
            credited: flow.stats,
            created_ms: self.clock.now_ms(),
            generation: 0,
            seen_round: round,
            installed: true,
        };
        self.megaflows.add(id, megaflow)
    }

    /// Removes megaflows, crediting what passed last.
    fn delete(&self, mut ids: Vec<MegaflowId>) {
        ids.sort_unstable_by_key(|(_, pmd)| *pmd);
        for ids in ids.chunk_by(|a, b| a.1 == b.1) {
            let ufids: Vec<_> = ids.iter().map(|(ufid, _)| *ufid).collect();
            let pmd = ids.first().and_then(|(_, pmd)| *pmd);
            for (id, last) in ids.iter().zip(self.dpif.flows_del(&ufids, pmd)) {
                let Some(mut m) = self.megaflows.remove(id) else { continue };
                if let Ok(stats) = last {
                    let passed = m.take_delta(&stats);
                    self.credit(&m.effects, passed);
                }
                self.release(m);
            }
        }
    }

    /// `revalidator/purge`: removes every megaflow.
    pub fn purge(&self) {
        self.delete(self.megaflows.select(|_| true));
        self.dpif.flow_flush();
        self.round_ended();
    }

    /// Credits what has passed so far, so that statistics are up to date. Decides nothing.
    pub fn push_stats(&self) {
        for flow in self.dpif.flow_dump() {
            let id = (flow.ufid, flow.pmd);
            if let Some((effects, passed)) =
                self.megaflows.with(&id, |m| (m.effects.clone(), m.take_delta(&flow.stats)))
            {
                self.credit(&effects, passed);
            }
        }
    }

    /// Moves the dynamic flow limit with the time that a round takes: far fewer when rounds take longer
    /// than two seconds, a few more when they are quick.
    fn adapt_limit(&self, flows: usize, took: Duration) {
        let took_ms = took.as_millis().max(1) as usize;
        self.note_flows(flows, took_ms as u64);
        let configured = self.knobs.flow_limit.load(Relaxed) as usize;
        let mut limit = self.dpif.flow_limit().min(configured);
        if took_ms > 2_000 {
            limit = limit * 1_000 / took_ms;
        } else if took_ms > 1_300 {
            limit = limit * 3 / 4;
        } else if took_ms < 1_000 && limit < flows * 1_000 / took_ms {
            limit += 1_000;
        } else if flows < limit {
            limit = limit.max(10_000);
        }
        self.dpif.set_flow_limit(limit.clamp(FLOW_LIMIT_MIN.min(configured), configured.max(1)));
    }
}
