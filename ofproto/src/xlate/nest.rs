//! Actions whose effects end with them (`clone`, patch cables), those that divide the pipeline
//! (`check_pkt_larger`), and those that watch packets pass (meters, samplers).

use super::ctx::Ctx;
use super::trace::NodeKind;
use dpif::{Action, Actions};
use openflow::action::{Action as OfAction, CheckPktLarger, Controller, Sample, UnrollXlate};

impl Ctx<'_> {
    /// Runs actions on a copy of the packet: nothing of it shows in what follows. The pipeline of the copy
    /// ends with them.
    pub fn list_on_copy(&mut self, actions: &[OfAction]) {
        let kept = (self.flow.clone(), self.stack.clone(), self.stack_bytes, self.action_set.clone());
        if self.last || actions.iter().all(is_reversible) {
            // Committing before the next output changes the packet back.
            self.list(actions);
            self.finish_copy();
        } else {
            self.commit();
            let marks = (self.base.clone(), self.was_mpls, self.conntracked);
            let inner = self.collect(|cx| {
                cx.list(actions);
                cx.finish_copy();
            });
            if !inner.is_empty() {
                self.actions.push(Action::Clone(inner));
            }
            (self.base, self.was_mpls, self.conntracked) = marks;
        }
        (self.flow, self.stack, self.stack_bytes, self.action_set) = kept;
    }

    fn finish_copy(&mut self) {
        let exit = self.exit && self.freezing.is_none();
        self.finish_pipeline();
        self.exit = exit;
    }

    /// The datapath actions that `f` makes, with nothing behind them.
    fn collect(&mut self, f: impl FnOnce(&mut Self)) -> Actions {
        let before = std::mem::take(&mut self.actions);
        let last = std::mem::replace(&mut self.last, true);
        f(self);
        self.last = last;
        std::mem::replace(&mut self.actions, before)
    }

    /// `check_pkt_larger`: the rest of the pipeline twice, for long packets and for others.
    pub fn check_pkt_larger(&mut self, a: &CheckPktLarger, rest: &[OfAction]) {
        let kept = (self.flow.clone(), self.stack.clone(), self.stack_bytes, self.action_set.clone());
        self.commit();
        let marks = (self.base.clone(), self.was_mpls, self.conntracked);
        let exit = self.exit;
        let mut branch = |larger: u64| {
            self.exit = false;
            a.dst.write_u64(&mut self.flow, larger, &self.switch.tlv);
            let actions = self.collect(|cx| {
                cx.list(rest);
                cx.finish_pipeline();
            });
            (self.base, self.was_mpls, self.conntracked) = marks.clone();
            (self.flow, self.stack, self.stack_bytes, self.action_set) = kept.clone();
            actions
        };
        let (greater, less_equal) = (branch(1), branch(0));
        self.exit = exit;
        self.actions.push(Action::CheckPktLen { len: a.pkt_len, greater, less_equal });
        // The rest has been run.
        self.end_list = true;
    }

    pub fn meter(&mut self, meter_id: u32) {
        if let Some(id) = self.switch.meters.dp_id(meter_id) {
            self.actions.push(Action::Meter(id));
        }
    }

    /// The meter that packets to a controller go through: the action's own, or the one for all.
    pub fn controller_meter(&self, to: &Controller) -> Option<u32> {
        let meters = &self.switch.meters;
        let own = (to.meter_id != 0).then(|| meters.dp_id(to.meter_id)).flatten();
        own.or(meters.controller())
    }

    /// Appends `action` behind a meter, if there is one.
    pub fn metered(&mut self, meter: Option<u32>, action: Action) {
        self.actions.push(metered(meter, action));
    }

    /// A sampler reports to an exporter (`Flow_Sample_Collector_Set`); without one there is nothing to do.
    pub fn sample(&mut self, _: &Sample) {}

    /// Back in a rule's actions after a freeze.
    pub fn unroll(&mut self, a: &UnrollXlate) {
        self.table = a.rule_table_id.unwrap_or(u8::MAX);
        self.rule_cookie = a.rule_cookie;
        let (table, cookie) = (self.table, self.rule_cookie);
        self.report(NodeKind::Thaw, || {
            // As the stock daemon has it: the bytes the other way round.
            let cookie = match cookie.swap_bytes() {
                0 => "0".to_owned(),
                c => format!("{c:#x}"),
            };
            format!("restored state: table={table}, cookie={cookie}")
        });
    }
}

/// `action` on a copy that goes through `meter` first.
pub fn metered(meter: Option<u32>, action: Action) -> Action {
    match meter {
        None => action,
        Some(id) => Action::Sample { probability: u32::MAX, actions: vec![Action::Meter(id), action] },
    }
}

/// Whether the packet is as it was before, once its fields are set back.
fn is_reversible(a: &OfAction) -> bool {
    !matches!(
        a,
        OfAction::Ct(_)
            | OfAction::Nat(_)
            | OfAction::Meter(_)
            | OfAction::OutputTrunc(_)
            | OfAction::Encap(_)
            | OfAction::Decap(_)
            | OfAction::DecNshTtl(_)
    )
}
