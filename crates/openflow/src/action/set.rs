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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Parser, Text};

    fn ordered(set: &str) -> String {
        let mut out = String::new();
        Text::new(&mut out).actions(&execution_order(&Parser::default().actions(set).unwrap()));
        out
    }

    #[test]
    fn order_of_execution() {
        assert_eq!(
            ordered("output:1,load:1->reg0[],pop_vlan,push_vlan:0x8100,set_queue:5"),
            "pop_vlan,push_vlan:0x8100,load:0x1->NXM_NX_REG0[],set_queue:5,output:1"
        );
        assert_eq!(
            ordered("dec_ttl,dec_mpls_ttl,push_mpls:0x8847,pop_mpls:0x800,strip_vlan,output:1"),
            "strip_vlan,pop_mpls:0x0800,push_mpls:0x8847,dec_ttl,dec_mpls_ttl,output:1"
        );
    }

    #[test]
    fn the_last_one_counts() {
        assert_eq!(ordered("output:1,output:2"), "output:2");
        assert_eq!(ordered("push_mpls:0x8847,output:1,push_mpls:0x8848"), "push_mpls:0x8848,output:1");
        assert_eq!(ordered("mod_nw_tos:4,output:1,mod_nw_tos:8"), "mod_nw_tos:4,mod_nw_tos:8,output:1");
    }

    #[test]
    fn one_way_out() {
        assert_eq!(ordered("group:1,output:2"), "group:1");
        assert_eq!(ordered("output:2,group:1"), "group:1");
        assert_eq!(ordered("output:2,resubmit(,1),ct(),ct_clear"), "output:2");
        assert_eq!(ordered("ct_clear,ct(table=1)"), "ct_clear");
        assert_eq!(ordered("dec_ttl,load:1->reg0[]"), "drop");
    }
}
