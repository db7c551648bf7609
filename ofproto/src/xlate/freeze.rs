//! Freezing: a translation that stops because the datapath has to look at the packet again, and goes on
//! when it comes back.
//!
//! What an action needs before it can go on (a hash, the header behind an MPLS label, a controller's word)
//! is asked for with [`Ctx::trigger_freeze`] and its siblings. That ends all lists of actions that are
//! running; on the way up each leaves what it has not done yet ([`Ctx::keep`]). Where the packet's way ends
//! (the pipeline of a switch, a bucket, a clone), [`Ctx::finish_freezing`] interns all that as one state and
//! sends the packet round with its id.

use super::ctx::Ctx;
use super::trace::NodeKind;
use crate::recirc::{Frozen, FrozenMetadata, RecircNode};
use crate::text;
use dpif::{Action, DropReason, HashAlg};
use flow::{Field, Tunnel, Value};
use openflow::action::{self, Action as OfAction, Controller, SetField, SetForm, UnrollXlate};

use crate::ids::{OfPort, in_port};

/// A freeze under way.
#[derive(Debug, Default)]
pub(super) struct Freezing {
    /// What is to be done after it, in order.
    actions: Vec<OfAction>,
    /// The last note in `actions` of whose rule the actions are.
    unroll: Option<UnrollXlate>,
    /// The action that asked for it is to be done again.
    redo: bool,
    hash: Option<(HashAlg, u32)>,
    /// The controller that resumes it.
    pause: Option<Box<Controller>>,
}

impl Ctx<'_> {
    /// Stops; the present action is done anew afterwards.
    pub fn trigger_freeze(&mut self) {
        self.begin_freezing(Freezing { redo: true, ..Freezing::default() });
    }

    /// Stops; the next action comes first afterwards.
    pub fn freeze_behind(&mut self) {
        self.begin_freezing(Freezing::default());
    }

    /// Stops until the packet has a hash; the present action is done anew afterwards.
    pub fn freeze_for_hash(&mut self, alg: HashAlg, basis: u32) {
        self.begin_freezing(Freezing { redo: true, hash: Some((alg, basis)), ..Freezing::default() });
    }

    /// Stops until a controller resumes; the next action comes first afterwards.
    pub fn freeze_for_controller(&mut self, to: &Controller) {
        let pause = Some(Box::new(to.clone()));
        self.begin_freezing(Freezing { pause, ..Freezing::default() });
    }

    fn begin_freezing(&mut self, how: Freezing) {
        self.exit = true;
        self.freezing = Some(how);
    }

    /// Where to go on in a list whose action `at` has just run: `None` if it did not freeze, or what is to
    /// be kept is kept already.
    pub fn frozen_from(&self, at: usize) -> Option<usize> {
        let f = self.freezing.as_ref().filter(|f| self.exit && f.actions.is_empty())?;
        Some(if f.redo { at } else { at + 1 })
    }

    /// Keeps actions for afterwards, as far as they still mean something then.
    pub fn keep(&mut self, actions: &[OfAction]) {
        let Some(mut f) = self.freezing.take() else { return };
        for a in actions {
            if names_its_rule(a) {
                self.note_rule(&mut f);
            }
            match a {
                OfAction::Note(_) | OfAction::Conjunction(_) => {}
                // Instructions, as the actions that do the same.
                OfAction::GotoTable(g) => f.actions.push(OfAction::Resubmit(action::Resubmit {
                    in_port: OfPort::IN_PORT,
                    table_id: g.table_id,
                    with_ct_orig: false,
                    form: action::ResubmitForm::Table,
                })),
                OfAction::WriteMetadata(m) => {
                    let bytes = |v: u64| Value::from_bytes(&v.to_be_bytes());
                    let set =
                        SetField::new(Field::Metadata, &bytes(m.metadata), &bytes(m.mask), SetForm::SetField);
                    f.actions.push(OfAction::SetField(set));
                }
                other => f.actions.push(other.clone()),
            }
        }
        self.freezing = Some(f);
    }

    /// Notes whose rule the actions that follow are, unless that is known.
    fn note_rule(&self, f: &mut Freezing) {
        let table = (self.rule_cookie != u64::MAX || self.rule.is_some()).then_some(self.table);
        let unroll = UnrollXlate { rule_table_id: table, rule_cookie: self.rule_cookie };
        if f.unroll != Some(unroll) {
            f.unroll = Some(unroll);
            f.actions.push(OfAction::UnrollXlate(Box::new(unroll)));
        }
    }

    /// Sends the packet round, if a freeze is under way; the next lookup is in table 0 if no action is left.
    pub fn finish_freezing(&mut self) {
        let Some(f) = self.freezing.take() else { return };
        self.exit = false;
        self.commit();
        match &f.pause {
            Some(to) => self.pause(to, f.actions),
            None => self.recirculate(0, f.actions, f.hash),
        }
    }

    fn recirculate(&mut self, table: u8, actions: Vec<OfAction>, hash: Option<(HashAlg, u32)>) {
        let frozen = self.freeze(table, actions, &[]);
        let Some(id) = self.intern(frozen) else { return };
        if let Some((alg, basis)) = hash {
            self.actions.push(Action::Hash { alg, basis });
        }
        self.actions.push(Action::Recirc(id));
    }

    /// Where a switch's pipeline ends: the action set, unless a freeze keeps it for later.
    pub fn finish_pipeline(&mut self) {
        if self.error != DropReason::Ok {
            self.freezing = None;
            return;
        }
        if self.freezing.is_none() {
            self.exit = false;
            self.run_action_set();
            self.keep_local_dhcp();
        }
        self.finish_freezing();
    }

    /// What must be kept to go on later with `actions`, or at `table` if there are none.
    pub fn freeze(&self, table: u8, actions: Vec<OfAction>, userdata: &[u8]) -> Frozen {
        Frozen {
            switch: self.switch.id,
            table,
            in_port: in_port(&self.flow),
            metadata: FrozenMetadata::of(&self.flow),
            stack: self.stack.iter().map(|v| v.as_bytes().to_vec()).collect(),
            mirrors: self.mirrors,
            conntracked: self.conntracked,
            was_mpls: self.was_mpls,
            actions,
            action_set: self.action_set.clone(),
            rule_cookie: self.rule_cookie,
            rule_table: self.table,
            userdata: userdata.to_vec(),
        }
    }

    /// Interns a frozen state for as long as this translation's actions live.
    pub fn intern(&mut self, frozen: Frozen) -> Option<u32> {
        let Some(node) = self.fabric.recirc.intern(frozen) else {
            self.fail(DropReason::NoRecirculationContext, "Failed to allocate recirculation id");
            return None;
        };
        let id = node.id;
        self.recircs.push(node);
        Some(id)
    }

    /// Goes on where a frozen state left off.
    pub fn thaw(&mut self, node: &RecircNode) {
        let f = &node.frozen;
        self.report(NodeKind::Thaw, || "thaw".to_owned());
        self.below(|cx| {
            cx.report(NodeKind::Thaw, || format!("Resuming from table {}", f.table));
            let of = |list: &[OfAction]| text::actions(list);
            if !f.action_set.is_empty() {
                cx.report(NodeKind::Thaw, || format!("Restoring action set: {}", of(&f.action_set)));
            }
            if !f.actions.is_empty() {
                cx.report(NodeKind::Thaw, || format!("Restoring actions: {}", of(&f.actions)));
            }
        });
        f.metadata.restore(&mut self.flow);
        self.base = self.flow.clone();
        self.base.tunnel = Tunnel::default();
        self.stack = f.stack.iter().map(|b| Value::from_bytes(b)).collect();
        self.stack_bytes = f.stack.iter().map(Vec::len).sum();
        self.action_set = f.action_set.clone();
        self.set_actset_output();
        self.mirrors = f.mirrors;
        self.conntracked = f.conntracked;
        if !f.conntracked {
            super::ct::clear(&mut self.flow);
        }
        self.rule_cookie = f.rule_cookie;
        self.table = f.rule_table;
        if f.actions.is_empty() {
            self.start_at(f.table);
        } else {
            self.list(&f.actions);
        }
        self.finish_pipeline();
    }
}

/// Whether an action may make a message to controllers that says of which rule it is, or looks up "this table".
fn names_its_rule(a: &OfAction) -> bool {
    match a {
        OfAction::OutputReg(_)
        | OfAction::OutputTrunc(_)
        | OfAction::Group(_)
        | OfAction::Output(_)
        | OfAction::Controller(_)
        | OfAction::DecMplsTtl(_)
        | OfAction::DecNshTtl(_)
        | OfAction::DecTtl(_) => true,
        OfAction::Resubmit(r) => r.table_id == action::Resubmit::SAME_TABLE,
        _ => false,
    }
}
