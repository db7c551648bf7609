//! Questions about actions.

use super::{Action, Instruction};
use crate::{PortNo, Version};
use flow::Field;

/// All of `actions`, each followed by the actions within it.
pub fn flattened(actions: &[Action]) -> impl Iterator<Item = &Action> {
    let mut stack = vec![actions.iter()];
    std::iter::from_fn(move || {
        while let Some(level) = stack.last_mut() {
            if let Some(action) = level.next() {
                if let Some(nested) = action.code().nested() {
                    stack.push(nested.iter());
                }
                return Some(action);
            }
            stack.pop();
        }
        None
    })
}

impl Action {
    /// The field that `set_field`, `load` or `move` writes.
    #[must_use]
    pub fn written_field(&self) -> Option<Field> {
        match self {
            Action::SetField(a) => Some(a.field()),
            Action::Move(a) => Some(a.dst.field),
            _ => None,
        }
    }

    /// The actions within.
    #[must_use]
    pub fn nested(&self) -> Option<&[Action]> {
        self.code().nested()
    }

    fn outputs_to(&self, port: PortNo) -> bool {
        match self {
            Action::Output(a) => a.port == port,
            Action::Enqueue(a) => a.port == port,
            Action::Controller(_) => port == PortNo::CONTROLLER,
            _ => false,
        }
    }
}

/// Whether some action outputs to `port` (the `out_port` of flow-mods and statistics requests).
#[must_use]
pub fn output_to_port(actions: &[Action], port: PortNo) -> bool {
    flattened(actions).any(|a| a.outputs_to(port))
}

/// Whether some action hands over to group `group_id` (the `out_group` of flow-mods and statistics requests).
#[must_use]
pub fn output_to_group(actions: &[Action], group_id: u32) -> bool {
    flattened(actions).any(|a| matches!(a, Action::Group(g) if g.group_id == group_id))
}

/// The meter that the packets go through first, 0 for none.
#[must_use]
pub fn meter(actions: &[Action]) -> u32 {
    let is_meter = |a: &&Action| a.kind().instruction(Version::Of13) == Instruction::Meter;
    match actions.first().filter(is_meter) {
        Some(Action::Meter(m)) => m.meter_id,
        _ => 0,
    }
}
