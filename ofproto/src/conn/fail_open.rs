//! What a switch in standalone mode does when no controller answers.
//!
//! When all controllers have been unreachable for three probe intervals, the tables are emptied and the
//! switch forwards as a learning switch. When one is connected again, it is sent a made-up packet every
//! two seconds, so that it has reason to show whether it accepts the switch; once it does, the
//! switch gives control back.

use super::agent::{Agent, FailMode};
use super::announce::PacketInNews;
use super::manager::Env;
use crate::flow_mod::{Change, Command, Filter};
use crate::ids::OfPort;
use crate::overrides::{Owner, Wanted};
use crate::rule::RuleFlags;
use crate::table::TABLE_ALL;
use flow::{Match, MiniMatch, TlvTable};
use openflow::action::{Action, Output};
use openflow::msg::packet_in::{PacketIn, reason};

/// Priority of the rule that Open vSwitch shows in `bridge/dump-flows` while it forwards without a controller.
const PRIORITY: u32 = 0x00f0_f0f0;
const BOGUS_INTERVAL_MS: u64 = 2_000;

#[derive(Clone, Debug, Default)]
pub struct FailOpen {
    /// How long controllers had been unreachable when this was last logged; `None` while all is well.
    since_s: Option<u64>,
    next_bogus_ms: Option<u64>,
}

impl FailOpen {
    pub fn is_active(&self) -> bool {
        self.since_s.is_some()
    }

    pub fn deadline_ms(&self) -> Option<u64> {
        self.next_bogus_ms
    }
}

/// The flow that makes a learning switch: all packets, lowest priority.
pub fn normal_flow() -> Change {
    let normal = Action::Output(Output { port: OfPort::NORMAL, max_len: 0 });
    Change {
        command: Command::Add,
        matching: MiniMatch::default(),
        priority: 0,
        filter: Filter { table: TABLE_ALL, ..Filter::ALL },
        new_cookie: 0,
        modify_cookie: true,
        idle_timeout_s: 0,
        hard_timeout_s: 0,
        importance: 0,
        flags: RuleFlags::empty(),
        check_overlap: false,
        reset_counts: false,
        actions: [normal].into(),
    }
}

/// Forwards every packet as NORMAL, whatever the tables say.
pub fn override_all() -> Wanted {
    let normal = Action::Output(Output { port: OfPort::NORMAL, max_len: 0 });
    Wanted { matching: Match::catchall(), priority: PRIORITY, actions: vec![normal] }
}

impl Agent {
    /// Whether this mode is to be considered at all.
    fn may_fail_open(&self) -> bool {
        self.has_controllers() && self.fail_mode == FailMode::Standalone
    }

    /// After a change of controllers or of the mode.
    pub fn update_fail_open(&mut self, env: &Env) {
        if !self.may_fail_open() && self.fail_open.is_active() {
            self.leave_fail_open(env);
        }
    }

    /// Once a second: enters the mode when its time has come.
    pub fn run_fail_open(&mut self, env: &Env, now_ms: u64) {
        if !self.may_fail_open() {
            return;
        }
        let failed_s = self.failure_s(now_ms);
        if failed_s > 0 && failed_s >= self.probe_interval_s() * 3 {
            match self.fail_open.since_s {
                None => {
                    tracing::warn!(target: "fail_open",
                        "Could not connect to controller (or switch failed controller's post-connection \
                         admission control policy) for {failed_s} seconds, failing open");
                    self.fail_open.since_s = Some(failed_s);
                    self.set_open(env, true);
                    self.flush_flows(env);
                }
                Some(logged) if failed_s > logged + 60 => {
                    tracing::info!(target: "fail_open",
                        "Still in fail-open mode after {failed_s} seconds disconnected from controller");
                    self.fail_open.since_s = Some(failed_s);
                }
                Some(_) => {}
            }
        }
        self.run_bogus(now_ms);
    }

    fn run_bogus(&mut self, now_ms: u64) {
        if !self.fail_open.is_active() || !self.has_connected_primary() {
            self.fail_open.next_bogus_ms = None;
            return;
        }
        match self.fail_open.next_bogus_ms {
            None => self.fail_open.next_bogus_ms = Some(now_ms + BOGUS_INTERVAL_MS),
            Some(at) if now_ms >= at => {
                self.fail_open.next_bogus_ms = Some(now_ms + BOGUS_INTERVAL_MS);
                self.send_packet_in(&bogus_packet(now_ms), &TlvTable::default(), now_ms);
            }
            Some(_) => {}
        }
    }

    fn has_connected_primary(&self) -> bool {
        self.conns.values().any(|c| c.kind == super::session::ConnKind::Primary)
    }

    /// A controller has shown that it accepts the switch.
    pub fn recover_from_fail_open(&mut self, env: &Env) {
        if self.fail_open.is_active() {
            self.leave_fail_open(env);
        }
    }

    fn leave_fail_open(&mut self, env: &Env) {
        tracing::warn!(target: "fail_open", "No longer in fail-open mode");
        self.fail_open = FailOpen::default();
        self.set_open(env, false);
        env.fabric.changed();
    }

    fn set_open(&self, env: &Env, open: bool) {
        let rule = open.then(override_all);
        if let Ok(switch) = env.fabric.write().switch_mut(self.id) {
            switch.overrides.set(Owner::FailOpen, rule.into_iter().collect(), env.now_ms());
        }
    }
}

/// A reverse ARP request from a made-up host.
fn bogus_packet(now_ms: u64) -> PacketInNews {
    let serial = (now_ms as u32).wrapping_mul(0x9e37_79b1).to_be_bytes();
    let mac = [0x00, 0x23, 0x20, 0x80 | serial[0], serial[1], serial[2]];
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&mac);
    // RARP; Ethernet and IPv4 addresses; request reverse.
    frame.extend_from_slice(&[0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
    for _ in 0..2 {
        frame.extend_from_slice(&mac);
        frame.extend_from_slice(&[0; 4]);
    }
    frame.resize(60, 0);
    let mut message = PacketIn::new(frame);
    message.reason = reason::NO_MATCH;
    message.metadata.set_in_port(OfPort::LOCAL.0);
    PacketInNews { message, controller_id: 0, continuation: None }
}
