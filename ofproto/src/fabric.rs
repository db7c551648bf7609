//! The switches of one datapath, and the threads that keep its megaflows.
//!
//! Locking: the state lock ([`Fabric::read`], [`Fabric::write`]) comes first; the small locks (MAC tables,
//! megaflow shards, frozen states) are taken for a moment with nothing taken behind them. Nobody calls
//! [`dpif::Dpif::execute`] with the state lock held, because it may come back as an upcall.

use crate::async_event::AsyncQueue;
use crate::effects::{self, Deferred, Effect, Passed};
use crate::ids::{OfPort, SwitchId};
use crate::megaflow::{Megaflow, Megaflows};
use crate::monitor::Sessions;
use crate::port::Port;
use crate::recirc::RecircTable;
use crate::rule::Count;
use crate::switch::State;
use crate::tunnel::Underlay;
use crate::xlate::{SwitchInput, translate_switch};
use clock::Clock;
use dpif::{Dpif, PortNo};
use openflow::action::{Action, Output};
use packet::Packet;
use packet::parse::{Meta, flow_of};
use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// `other_config` of the Open_vSwitch table that governs megaflows. Milliseconds and counts.
#[derive(Debug)]
pub struct Knobs {
    pub flow_limit: AtomicU64,
    pub max_idle_ms: AtomicU64,
    pub max_revalidator_ms: AtomicU64,
    pub min_revalidate_pps: AtomicU64,
    /// `upcall/disable-megaflows`: install exact-match flows.
    pub megaflows: AtomicBool,
    /// `upcall/disable-ufid`: affects dumps only, our datapath always has identifiers.
    pub ufid: AtomicBool,
}

impl Default for Knobs {
    fn default() -> Self {
        Knobs {
            flow_limit: 200_000.into(),
            max_idle_ms: 10_000.into(),
            max_revalidator_ms: 500.into(),
            min_revalidate_pps: 5.into(),
            megaflows: true.into(),
            ufid: true.into(),
        }
    }
}

/// What the revalidator was asked to do, and how far it got.
#[derive(Debug, Default)]
pub struct Rounds {
    pub asked: u64,
    pub done: u64,
    pub paused: bool,
    pub purge: bool,
    /// To look at once whether there is something to do.
    pub look: bool,
    pub stop: bool,
}

/// What the revalidator saw of the datapath's flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowStatistics {
    pub current: usize,
    /// Moving average over rounds.
    pub average: usize,
    pub max: usize,
    /// Milliseconds that the last round took.
    pub dump_ms: u64,
}

/// One datapath with its switches.
pub struct Fabric {
    pub dpif: Arc<dyn Dpif>,
    pub clock: Clock,
    pub recirc: RecircTable,
    pub megaflows: Megaflows,
    pub knobs: Knobs,
    pub async_queue: AsyncQueue,
    pub sessions: Sessions,
    /// The network under the tunnels.
    pub underlay: Arc<Underlay>,
    state: RwLock<State>,
    generation: AtomicU64,
    flow_statistics: Mutex<FlowStatistics>,
    rounds: Mutex<Rounds>,
    /// [`Rounds::done`], for those that do not want the lock.
    rounds_done: AtomicU64,
    round_asked: Condvar,
    round_done: Condvar,
    /// The revalidator sleeps long, as there are no megaflows.
    resting: AtomicBool,
}

impl Fabric {
    /// A fabric without switches and with an underlay of its own.
    pub fn new(dpif: Arc<dyn Dpif>, clock: Clock) -> Arc<Self> {
        Self::over(dpif, clock, Arc::default())
    }

    /// As [`Fabric::new`], with an underlay that others have too.
    pub fn over(dpif: Arc<dyn Dpif>, clock: Clock, underlay: Arc<Underlay>) -> Arc<Self> {
        Arc::new(Fabric {
            dpif,
            clock,
            recirc: RecircTable::default(),
            megaflows: Megaflows::default(),
            knobs: Knobs::default(),
            async_queue: AsyncQueue::default(),
            sessions: Sessions::default(),
            state: RwLock::new(State { underlay: underlay.clone(), ..State::default() }),
            underlay,
            generation: AtomicU64::new(1),
            flow_statistics: Mutex::default(),
            rounds: Mutex::default(),
            rounds_done: AtomicU64::new(0),
            round_asked: Condvar::new(),
            round_done: Condvar::new(),
            resting: AtomicBool::new(false),
        })
    }

    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    /// The reader's lock, unless somebody has the writer's or waits for it.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, State>> {
        self.state.try_read()
    }

    /// The writer's lock. Follow a change that forwarding depends on with [`Fabric::changed`].
    pub fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write()
    }

    /// Something that translations depend on has changed: megaflows need another look.
    pub fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Counts changes.
    pub fn generation(&self) -> u64 {
        // Both only grow, so that their sum changes whenever one of them does.
        self.generation.load(Ordering::Acquire) + self.underlay.generation()
    }

    /// Applies the effects of passing packets, then what they ask of the tables. Takes the state lock.
    pub fn credit(&self, effects: &[Effect], passed: Passed) {
        if passed.count.packets == 0 {
            return;
        }
        let mut deferred = Vec::new();
        effects::apply(&self.read(), effects, passed, &mut deferred);
        self.carry_out(deferred);
    }

    /// Makes the table changes that translations asked for. Takes the writer's lock if there are any.
    pub fn carry_out(&self, deferred: Vec<Deferred>) {
        let (questions, deferred): (Vec<_>, Vec<_>) =
            deferred.into_iter().partition(|d| matches!(d, Deferred::Solicit(_)));
        self.ask(&questions);
        if deferred.is_empty() {
            return;
        }
        let now_ms = self.clock.now_ms();
        let mut state = self.write();
        let changed = deferred.into_iter().fold(false, |changed, d| {
            let did = match d {
                Deferred::Learn { switch, flow } => {
                    crate::learn::carry_out(&mut state, switch, &flow, now_ms, &self.async_queue)
                }
                Deferred::ShortenTimeouts { switch, rule, idle_s, hard_s } => {
                    crate::flow_mod::shorten_timeouts(&mut state, switch, &rule, idle_s, hard_s)
                }
                Deferred::Solicit(_) => false,
            };
            changed | did
        });
        drop(state);
        if changed {
            self.changed();
        }
    }

    /// Sends questions where neighbours are, as if hosts had sent them by their devices.
    fn ask(&self, questions: &[Deferred]) {
        for question in questions {
            if let Deferred::Solicit(q) = question {
                self.send_by_tables(q.switch, q.port, q.packet());
            }
        }
    }

    /// Lets a packet go through a switch's tables as if it had come in by `port`.
    fn send_by_tables(&self, switch: SwitchId, port: OfPort, mut packet: Packet) {
        let meta = Meta { in_port: port.0.into(), ..Meta::default() };
        let flow = flow_of(&mut packet, &meta);
        let table = Action::Output(Output { port: OfPort::TABLE, max_len: 0 });
        let input = SwitchInput {
            switch,
            flow: flow.clone(),
            packet: Some(&packet),
            actions: Some(&[table]),
            is_packet_out: true,
            frozen: None,
            trace: None,
        };
        let now_ms = self.clock.now_ms();
        let count = Count { packets: 1, bytes: packet.len() as u64 };
        let passed = Passed { count, used_ms: now_ms, tcp_flags: 0 };
        let (mut deferred, mut key) = (Vec::new(), flow);
        let state = self.read();
        let t = translate_switch(self, &state, input);
        effects::apply(&state, &t.effects, passed, &mut deferred);
        let dp_port = state.switch(switch).and_then(|s| s.port(port)).and_then(Port::dp_port);
        drop(state);
        key.in_port = dp_port.unwrap_or(PortNo::NONE).0;
        // A question that would itself need an answer first is not asked: there is no end to that.
        deferred.retain(|d| !matches!(d, Deferred::Solicit(_)));
        self.carry_out(deferred);
        self.recirc.retire(t.recircs, now_ms);
        self.dpif.execute(packet, &key, &t.actions);
    }

    /// Lets go of a megaflow that is no longer in the datapath.
    pub fn release(&self, megaflow: Megaflow) {
        self.recirc.retire(megaflow.recircs, self.clock.now_ms());
    }

    /// Asks for a revalidation round soon. Returns its number for [`Fabric::wait_round`].
    pub fn ask_round(&self) -> u64 {
        let mut rounds = self.rounds.lock();
        rounds.asked = rounds.done + 2;
        self.round_asked.notify_all();
        rounds.asked
    }

    /// Waits until a round that began after the call to [`Fabric::ask_round`] has ended.
    pub fn wait_round(&self, round: u64) {
        let mut rounds = self.rounds.lock();
        while rounds.done < round && !rounds.stop && !rounds.paused {
            self.round_done.wait(&mut rounds);
        }
    }

    /// Many changes are complete: the revalidator looks at them now, not at the next tick.
    pub fn look_now(&self) {
        self.steer(|rounds| rounds.look = true);
    }

    /// Changes what the revalidator is to do.
    pub fn steer(&self, f: impl FnOnce(&mut Rounds)) {
        f(&mut self.rounds.lock());
        self.round_asked.notify_all();
        self.round_done.notify_all();
    }

    /// For the revalidator: waits for something to do, `tick_ms` of real time at most, or `rest_ms` while there are no
    /// megaflows that could become wrong.
    pub fn next_order(&self, tick_ms: u64, rest_ms: u64) -> Rounds {
        // Said before it is looked at: who adds a megaflow meanwhile takes it back.
        self.resting.store(true, Ordering::SeqCst);
        let has_flows = !self.megaflows.is_empty() || self.flow_statistics().current > 0;
        // A clock that is moved by hand does not say so here.
        if has_flows || !self.clock.is_real() {
            self.resting.store(false, Ordering::SeqCst);
        }
        let mut rounds = self.rounds.lock();
        let idle = |r: &Rounds| !r.stop && !r.purge && !r.look && (r.paused || r.asked <= r.done);
        if idle(&rounds) {
            let for_ms = if self.resting.load(Ordering::SeqCst) { rest_ms } else { tick_ms };
            self.round_asked.wait_for(&mut rounds, std::time::Duration::from_millis(for_ms));
        }
        let order = Rounds { ..*rounds };
        (rounds.purge, rounds.look) = (false, false);
        order
    }

    /// A megaflow was added: the revalidator has something to look after.
    pub(crate) fn end_rest(&self) {
        if self.resting.load(Ordering::SeqCst) && self.resting.swap(false, Ordering::SeqCst) {
            // It is either waiting or will see the flag.
            drop(self.rounds.lock());
            self.round_asked.notify_all();
        }
    }

    /// For the revalidator: a round has ended.
    pub fn round_ended(&self) {
        self.rounds.lock().done += 1;
        self.rounds_done.fetch_add(1, Ordering::Relaxed);
        self.round_done.notify_all();
    }

    pub fn flow_statistics(&self) -> FlowStatistics {
        *self.flow_statistics.lock()
    }

    /// For the revalidator: notes how many flows a round found and how long it took.
    pub(crate) fn note_flows(&self, current: usize, dump_ms: u64) {
        let mut s = self.flow_statistics.lock();
        let (average, max) = ((s.average + current) / 2, s.max.max(current));
        *s = FlowStatistics { current, average, max, dump_ms };
    }

    /// Rounds ended so far.
    pub fn rounds_done(&self) -> u64 {
        self.rounds_done.load(Ordering::Relaxed)
    }
}
