//! The context of a translation: lookups, recursion, freezing, and the end.

use super::ct::CtRecirc;
use super::freeze::Freezing;
use super::lessons::Lessons;
use super::trace::{NodeKind, Trace};
use super::{SwitchInput, Translation, wildcards};
use crate::bfd::Bfd;
use crate::effects::Effect;
use crate::fabric::Fabric;
use crate::ids::{OfPort, in_port};
use crate::port::PortConfig;
use crate::recirc::RecircNode;
use crate::rule::Rule;
use crate::switch::{State, Switch};
use crate::table::TableMiss;
use dpif::{Action, Actions, DropReason, SlowPath};
use flow::{Flow, Mask, Tunnel, Value};
use openflow::action::{self, Action as OfAction};
use openflow::msg::switch_config::FragHandling;
use std::sync::Arc;

/// Nested tables, groups and bridges.
pub const DEPTH_MAX: u32 = 64;
/// Table lookups of one translation.
pub const RESUBMITS_MAX: u32 = DEPTH_MAX * DEPTH_MAX;
/// Datapath actions of one translation.
pub const ACTIONS_MAX: usize = 4_096;
/// Bytes on the stack of `push` and `pop`.
pub const STACK_BYTES_MAX: usize = 65_536;

/// The packet's way through one switch: what a patch port sets aside.
pub(super) struct Ctx<'a> {
    pub fabric: &'a Fabric,
    pub state: &'a State,
    pub switch: &'a Switch,
    /// Where the packet came in.
    start: &'a Switch,
    pub is_packet_out: bool,
    /// There is a packet, for which side effects happen.
    pub has_packet: bool,

    /// The packet as the tables see it now.
    pub flow: Flow,
    /// The packet as the datapath's actions so far have made it.
    pub base: Flow,
    pub wc: Mask,
    pub actions: Actions,
    pub effects: Vec<Effect>,
    pub recircs: Vec<Arc<RecircNode>>,
    pub lessons: Lessons,
    /// The outcome depends on what no megaflow can tell.
    pub volatile: bool,
    pub slow: SlowPath,
    pub error: DropReason,
    pub trace: Option<Trace>,

    pub stack: Vec<Value>,
    pub stack_bytes: usize,
    pub action_set: Vec<OfAction>,
    pub in_action_set: bool,
    pub in_group: bool,
    pub table: u8,
    pub rule: Option<Arc<Rule>>,
    pub rule_cookie: u64,
    depth: u32,
    /// Patch cables that the packet is behind.
    pub patches: u32,
    resubmits: u32,
    /// An `exit` action, or a freeze, ends all lists of actions that run.
    pub exit: bool,
    /// The present list of actions ends.
    pub end_list: bool,
    pub freezing: Option<Freezing>,
    /// Nothing is left to do for the packet behind the present action.
    pub last: bool,
    /// The last MPLS label has gone: what is behind it has not been looked at.
    pub was_mpls: bool,
    /// An `encap`, a `decap`, or the Ethernet header that a packet of a layer-3 port still has to get, that the
    /// next commit carries out.
    pub pending_encap: bool,
    pub pending_decap: bool,
    /// Variable context of the NSH header that `encap` puts on.
    pub nsh_md2: Vec<u8>,
    /// The next rule is the first one of the translation.
    is_first_rule: bool,
    pub conntracked: bool,
    pub mirrors: u32,
    /// Bytes that the next output may send (`output(max_len=...)`).
    pub trunc: Option<u32>,
    /// What `nat` within a `ct` says.
    pub ct_nat: Option<action::Nat>,
    /// Packets that went round by `ct`, for a trace.
    pub ct_recircs: Vec<CtRecirc>,
    /// The sessions that the packet is for.
    pub sessions: Vec<Arc<Bfd>>,
    /// The packet as it came.
    pub original: Flow,
}

impl<'a> Ctx<'a> {
    pub fn new(fabric: &'a Fabric, state: &'a State, switch: &'a Switch, input: &SwitchInput<'a>) -> Self {
        let mut new = Ctx {
            fabric,
            state,
            switch,
            start: switch,
            is_packet_out: input.is_packet_out,
            has_packet: input.packet.is_some(),
            flow: input.flow.clone(),
            base: input.flow.clone(),
            wc: wildcards::initial(&input.flow),
            actions: Vec::new(),
            effects: Vec::new(),
            recircs: Vec::new(),
            lessons: Lessons::default(),
            volatile: false,
            slow: SlowPath::empty(),
            error: DropReason::Ok,
            trace: None,
            stack: Vec::new(),
            stack_bytes: 0,
            action_set: Vec::new(),
            in_action_set: false,
            in_group: false,
            table: 0,
            rule: None,
            rule_cookie: u64::MAX,
            depth: 0,
            patches: 0,
            resubmits: 0,
            exit: false,
            end_list: false,
            freezing: None,
            last: true,
            was_mpls: false,
            pending_encap: false,
            pending_decap: false,
            nsh_md2: Vec::new(),
            is_first_rule: false,
            conntracked: false,
            mirrors: 0,
            trunc: None,
            ct_nat: None,
            ct_recircs: Vec::new(),
            sessions: Vec::new(),
            original: input.flow.clone(),
        };
        // The datapath does not send a packet on with the tunnel that it came out of.
        new.base.tunnel = Tunnel::default();
        new
    }

    pub fn report(&mut self, kind: NodeKind, text: impl FnOnce() -> String) {
        if let Some(t) = &mut self.trace {
            t.add(kind, text());
        }
    }

    pub fn detail(&mut self, text: &str) {
        self.report(NodeKind::Detail, || text.to_owned());
    }

    pub fn warn(&mut self, text: &str) {
        self.report(NodeKind::Warning, || text.to_owned());
    }

    /// Ends the translation with a reason.
    pub fn fail(&mut self, error: DropReason, text: &str) {
        self.report(NodeKind::Error, || text.to_owned());
        self.error = error;
    }

    /// Translates from the beginning, or from where `frozen` left off.
    pub fn run(&mut self, frozen: Option<&RecircNode>, actions: Option<&[OfAction]>) {
        let name = self.switch.name.clone();
        self.report(NodeKind::Bridge, || format!("bridge(\"{name}\")"));
        self.below(|cx| {
            if let Some(node) = frozen {
                cx.thaw(node);
                return;
            }
            if !cx.accept() {
                return;
            }
            if cx.refuse_mirror_output() || cx.special() {
                return;
            }
            cx.mirror_ingress();
            match actions {
                Some(list) => cx.list(list),
                None => {
                    cx.is_first_rule = true;
                    cx.enter_pipeline(|cx, actions| cx.list(actions));
                }
            }
            cx.finish_pipeline();
        });
    }

    /// Looks up the first table of a translation.
    pub fn start_at(&mut self, table: u8) {
        self.is_first_rule = true;
        let port = in_port(&self.flow);
        self.table_action(port, table, true);
    }

    /// Looks up table 0, if the input port lets packets in, and runs what it finds by `run`.
    pub fn enter_pipeline(&mut self, run: impl FnOnce(&mut Self, &[OfAction])) {
        let port = in_port(&self.flow);
        if let Some(p) = self.switch.port(port)
            && p.config.contains(PortConfig::NO_RECV)
        {
            self.detail("OFPPC_NO_RECV set, dropping");
            return;
        }
        self.table_action_by(port, 0, true, run);
    }

    /// Not behind a patch cable.
    pub fn is_outermost(&self) -> bool {
        self.patches == 0
    }

    /// Runs `f` one level below the last line of the trace.
    pub fn below<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> T {
        if let Some(t) = &mut self.trace {
            t.enter();
        }
        let out = f(self);
        if let Some(t) = &mut self.trace {
            t.leave();
        }
        out
    }

    /// Whether one more table, group or bridge may be entered.
    pub fn may_descend(&mut self) -> bool {
        if self.depth >= DEPTH_MAX {
            self.fail(DropReason::RecursionTooDeep, "over max translation depth 64");
        } else if self.resubmits >= RESUBMITS_MAX {
            self.fail(DropReason::TooManyResubmits, "over 4096 resubmit actions");
        } else if self.actions.len() > ACTIONS_MAX {
            self.fail(DropReason::TooManyResubmits, "resubmits yielded over 64 kB of actions");
        } else if self.stack_bytes >= STACK_BYTES_MAX {
            self.fail(DropReason::StackTooDeep, "resubmits yielded over 64 kB of stack");
        } else {
            return true;
        }
        false
    }

    /// Runs `f` one level deeper.
    pub fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> T {
        self.depth += 1;
        let out = f(self);
        self.depth -= 1;
        out
    }

    /// Looks `table` up as if the packet had come from `port`, and runs what is found.
    pub fn table_action(&mut self, port: OfPort, table: u8, honor_miss: bool) {
        self.table_action_with(port, table, honor_miss, |_, _| (), |cx, actions| cx.list(actions));
    }

    /// The same with a packet that `swap` makes another for the lookup, and the same again after it.
    pub fn table_action_as(
        &mut self,
        port: OfPort,
        table: u8,
        honor_miss: bool,
        swap: impl Fn(&mut Flow, &mut Mask),
    ) {
        self.table_action_with(port, table, honor_miss, swap, |cx, actions| cx.list(actions));
    }

    /// The same with `run` to run the actions.
    pub fn table_action_by(
        &mut self,
        port: OfPort,
        table: u8,
        honor_miss: bool,
        run: impl FnOnce(&mut Self, &[OfAction]),
    ) {
        self.table_action_with(port, table, honor_miss, |_, _| (), run);
    }

    fn table_action_with(
        &mut self,
        port: OfPort,
        table: u8,
        honor_miss: bool,
        swap: impl Fn(&mut Flow, &mut Mask),
        run: impl FnOnce(&mut Self, &[OfAction]),
    ) {
        // What is behind an MPLS label is known only after another look at the packet.
        if self.was_mpls {
            self.trigger_freeze();
            return;
        }
        if !self.may_descend() {
            return;
        }
        let (old_table, old_rule, old_cookie) = (self.table, self.rule.take(), self.rule_cookie);
        let in_group = std::mem::take(&mut self.in_group);
        swap(&mut self.flow, &mut self.wc);
        let found = self.lookup_from(port, table, honor_miss);
        swap(&mut self.flow, &mut self.wc);
        if let Some(rule) = found {
            let is_nested = !self.is_first_rule;
            self.resubmits += u32::from(is_nested);
            if is_nested && table <= old_table {
                self.deeper(|cx| cx.run_rule(&rule, run));
            } else {
                self.run_rule(&rule, run);
            }
        }
        (self.table, self.rule, self.rule_cookie) = (old_table, old_rule, old_cookie);
        self.in_group = in_group;
    }

    fn run_rule(&mut self, rule: &Arc<Rule>, run: impl FnOnce(&mut Self, &[OfAction])) {
        self.effects.push(Effect::Rule(rule.clone()));
        self.rule_cookie = rule.cookie;
        self.rule = Some(rule.clone());
        self.below(|cx| {
            let is_first = std::mem::take(&mut cx.is_first_rule);
            run(cx, &rule.actions);
            // As in the stock daemon, whose trace shows the action set with the first table.
            if is_first {
                cx.finish_pipeline();
            }
        });
    }

    /// Looks up one table after the other, as long as misses say "continue".
    pub(super) fn lookup_from(&mut self, port: OfPort, first: u8, honor_miss: bool) -> Option<Arc<Rule>> {
        let mut key = self.flow.clone();
        key.in_port = u32::from(port.0);
        if key.nw_frag & flow::NW_FRAG_ANY != 0 {
            match self.switch.frag {
                FragHandling::Normal => (key.tp_src, key.tp_dst) = (0, 0),
                FragHandling::Drop => {
                    self.report(NodeKind::Table, || {
                        let why = "Packets are IP fragments and the fragment handling mode is \"drop\".";
                        format!("{first:2}. {why}")
                    });
                    return Some(self.switch.internal.drop_frags.clone());
                }
                FragHandling::Reassemble | FragHandling::NxMatch => {}
            }
        }
        let switch = self.switch;
        for (id, table) in switch.tables.iter().enumerate().skip(first.into()) {
            self.table = id as u8;
            self.lessons.look_up(switch.id, id as u8);
            if id == 0
                && let Some(found) = switch.overrides.lookup(&key, &mut self.wc)
            {
                self.effects.push(Effect::Table { counters: table.counters.clone(), hit: true });
                self.report_rule(&found.rule, found.priority);
                return Some(found.rule.clone());
            }
            let rule = table.lookup(&key, Some(&mut self.wc)).cloned();
            self.effects.push(Effect::Table { counters: table.counters.clone(), hit: rule.is_some() });
            if let Some(rule) = rule {
                self.report_rule(&rule, rule.priority.into());
                return Some(rule);
            }
            let wanted = match table.miss {
                _ if !honor_miss => false,
                TableMiss::Continue => continue,
                TableMiss::Controller => true,
                TableMiss::Default => switch.packet_in_on_miss,
                TableMiss::Drop => false,
            };
            return Some(self.miss(wanted));
        }
        None
    }

    /// What becomes of a packet that no rule matched; `wanted` says whether controllers want to know.
    fn miss(&mut self, wanted: bool) -> Arc<Rule> {
        let port = self.switch.port(in_port(&self.flow));
        let quiet = port.is_some_and(|p| p.config.contains(PortConfig::NO_PACKET_IN));
        let (rule, why) = if wanted && !quiet {
            (&self.switch.internal.miss, "No match, and a \"packet-in\" is called for.")
        } else {
            (&self.switch.internal.no_packet_in, "No match.")
        };
        let table = self.table;
        self.report(NodeKind::Table, || format!("{table:2}. {why}"));
        rule.clone()
    }

    fn report_rule(&mut self, rule: &Rule, priority: u32) {
        let Some(trace) = &mut self.trace else { return };
        let mut text = format!("{:2}. ", rule.table);
        let m = rule.matching.expand();
        text.push_str(&crate::text::rule_head(&m, priority));
        if rule.cookie != 0 {
            text.push_str(&format!(", cookie {:#x}", rule.cookie));
        }
        trace.add(NodeKind::Table, text);
    }

    /// The translation's result.
    pub fn finish(mut self, generation: u64) -> Translation {
        wildcards::finish(&mut self.wc, &self.original);
        if self.error != DropReason::Ok {
            self.actions.clear();
            let counts = |e: &Effect| {
                matches!(e, Effect::Rule(_) | Effect::Table { .. } | Effect::PortRx(_) | Effect::Group { .. })
            };
            self.effects.retain(counts);
        }
        // What is last needs no copy of the packet.
        if let Some(Action::Clone(last)) = self.actions.pop_if(|a| matches!(a, Action::Clone(_))) {
            self.actions.extend(last);
        }
        if self.actions.is_empty() {
            self.actions.push(Action::Drop(self.error));
        }
        // Such a packet is not one that could not be translated.
        if self.error == DropReason::Congestion {
            self.error = DropReason::Ok;
        }
        Translation {
            actions: self.actions,
            mask: self.wc,
            slow: self.slow,
            slow_meter: self.start.meters.slow_path(),
            effects: self.effects,
            recircs: self.recircs,
            ct_recircs: self.ct_recircs,
            sessions: self.sessions,
            error: self.error,
            may_install: !self.volatile,
            missed_lessons: self.lessons.missed(),
            generation,
            tlv: self.switch.tlv.clone(),
            flow: self.flow,
            trace: self.trace,
        }
    }
}
