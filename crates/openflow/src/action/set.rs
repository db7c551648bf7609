//! Action sets (OpenFlow 1.5 section 5.6): what `write_actions` collects is executed once the pipeline ends.

use super::{Action, Role};

/// The actions of `set`, in the order in which they are to be executed. `set` holds what the
/// `write_actions` since the last `clear_actions` had, one after the other.
///
/// An empty result means that the set does nothing: it has neither output nor group, nor another action
/// that a packet could leave by.
#[must_use]
pub fn execution_order(set: &[Action]) -> Vec<Action> {
    let mut once: Vec<(u8, &Action)> = Vec::new();
    let mut last: Option<(u8, &Action)> = None;
    for action in set {
        match action.kind().info().role {
            Role::Once(order) => {
                once.retain(|(o, _)| *o != order);
                once.push((order, action));
            }
            Role::Final(priority) => last = last.filter(|(p, _)| *p > priority).or(Some((priority, action))),
            Role::Set | Role::ListOnly | Role::Instruction(_) => {}
        }
    }
    let Some((_, last)) = last else { return Vec::new() };
    once.sort_by_key(|(order, _)| *order);
    let setters = set.iter().filter(|a| a.kind().info().role == Role::Set);
    once.into_iter().map(|(_, a)| a).chain(setters).chain([last]).cloned().collect()
}
