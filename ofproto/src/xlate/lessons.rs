//! Flows that a translation learned, and should have seen itself.
//!
//! A translation changes nothing, so that a lookup behind a `learn` in the same translation does not find
//! what was learned. If there is a packet, the flow is put in and the packet translated anew.

use super::Translation;
use crate::effects::{Deferred, Effect};
use crate::fabric::Fabric;
use crate::ids::SwitchId;

/// What was learned so far.
#[derive(Debug, Default)]
pub(super) struct Lessons {
    tables: Vec<(SwitchId, u8)>,
    missed: bool,
}

impl Lessons {
    /// A flow that is not there is to be put in this table.
    pub fn note(&mut self, switch: SwitchId, table: u8) {
        self.tables.push((switch, table));
    }

    /// A packet is looked up in this table.
    pub fn look_up(&mut self, switch: SwitchId, table: u8) {
        self.missed |= !self.tables.is_empty() && self.tables.contains(&(switch, table));
    }

    /// Whether some lookup did not find what there should have been.
    pub fn missed(&self) -> bool {
        self.missed
    }
}

impl Fabric {
    /// Puts in the flows that a translation learned, so that it can be made anew. Takes the writer's lock.
    pub fn take_lessons(&self, t: Translation) {
        let lesson = |e: &Effect| match e {
            Effect::Learn { switch, flow } => Some(Deferred::Learn { switch: *switch, flow: flow.clone() }),
            _ => None,
        };
        self.carry_out(t.effects.iter().filter_map(lesson).collect());
        self.recirc.retire(t.recircs, self.clock.now_ms());
    }
}
