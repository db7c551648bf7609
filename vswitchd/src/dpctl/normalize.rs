//! `dpctl/normalize-actions`: lists of actions that do the same, made equal, for tests to compare.

use super::{INVALID, Output};
use dpif::text::{Style, actions_text, flow_key_text, parse_actions, parse_exact_key};
use dpif::{Action, PortNo};
use flow::{Flow, VLANS_MAX, Vlan};
use packet::proto::ethertype;
use std::collections::{BTreeMap, HashMap};

type Vlans = [(u16, u16); VLANS_MAX];

/// `dpctl/normalize-actions [-m] FLOW ACTIONS [NAME=NUMBER...]`: what is done with the packet for each of the tags
/// that it has on its way, outputs that follow each other in the order of their ports.
pub fn normalize_actions(args: &[&str]) -> Result<String, String> {
    let (options, words): (Vec<&str>, Vec<&str>) = args.iter().partition(|a| a.starts_with('-'));
    let verbose = options.iter().any(|o| matches!(*o, "-m" | "--more"));
    let mut out = Output::default();
    let [flow, actions, names @ ..] = &words[..] else { return Err("Syntax error\n".into()) };
    let mut numbers = HashMap::new();
    for name in names {
        match name.split_once('=').map(|(n, no)| (n, no.parse::<u32>())) {
            Some((n, Ok(no))) => drop(numbers.insert(n.to_owned(), PortNo(no))),
            _ => {
                out.error(&format!("{name}: expected NAME=NUMBER"), None);
                return out.finish();
            }
        }
    }
    let number = |name: &str| numbers.get(name).copied();
    let given = *flow;
    let flow = match parse_exact_key(given, Some(&number)) {
        Ok((flow, _)) => flow,
        Err(e) => {
            out.error(&format!("odp_flow_key_from_string ({e})"), Some(INVALID));
            return out.finish();
        }
    };
    let style = Style { verbose, ..Style::default() };
    out.line(&format!("input flow: {}", only_given(&flow_key_text(&flow, &style), given)));
    let Some(actions) = parse_actions(actions, Some(&number)) else {
        out.error("odp_actions_from_string", Some(INVALID));
        return out.finish();
    };
    if verbose {
        out.line(&format!("input actions: {}", actions_text(&actions, None)));
    }
    for (vlans, mut actions) in by_vlans(&flow, actions) {
        sort_outputs(&mut actions);
        let actions = actions_text(&actions, None);
        out.text(&format!("{}{}{actions}", vlans_text(&vlans), mpls_text(&flow)));
    }
    out.finish()
}

/// What the command named of the facts about a packet that stand before its port and its headers.
fn only_given(text: &str, given: &str) -> String {
    const ASIDE: [&str; 9] = [
        "skb_priority",
        "skb_mark",
        "ct_state",
        "ct_zone",
        "ct_mark",
        "ct_label",
        "recirc_id",
        "dp_hash",
        "packet_type",
    ];
    let name = |part: &str| part.split_once('(').map_or(String::new(), |(name, _)| name.to_owned());
    let is_wanted =
        |part: &&str| !ASIDE.contains(&&*name(part)) || given.contains(&format!("{}(", name(part)));
    let parts: Vec<&str> = text.split_inclusive("),").filter(is_wanted).collect();
    parts.concat()
}

/// The actions by the tags that the packet has when they are done, in the order of the tags.
fn by_vlans(flow: &Flow, actions: Vec<Action>) -> BTreeMap<Vlans, Vec<Action>> {
    let mut groups: BTreeMap<Vlans, Vec<Action>> = BTreeMap::new();
    let mut vlans = flow.vlans;
    for action in actions {
        match action {
            Action::PopVlan => {
                vlans.rotate_left(1);
                vlans[VLANS_MAX - 1] = Vlan::default();
            }
            Action::PushVlan { tpid, tci } => {
                vlans.rotate_right(1);
                vlans[0] = Vlan { tpid, tci };
            }
            other => groups.entry(vlans.map(|v| (v.tpid, v.tci))).or_default().push(other),
        }
    }
    groups
}

/// Puts each run of outputs in order.
fn sort_outputs(actions: &mut [Action]) {
    let port = |a: &Action| if let Action::Output(port) = a { Some(port.0) } else { None };
    for run in actions.chunk_by_mut(|a, b| port(a).is_some() == port(b).is_some()) {
        if run.first().is_some_and(|a| port(a).is_some()) {
            run.sort_by_key(port);
        }
    }
}

fn vlans_text(vlans: &Vlans) -> String {
    let present = vlans.iter().take_while(|(_, tci)| *tci != 0);
    let text: String = present
        .map(|(tpid, tci)| {
            // Open vSwitch prints the type as it lies in memory.
            let tpid = if *tpid == ethertype::VLAN {
                String::new()
            } else {
                format!("tpid=0x{:04x},", tpid.to_be())
            };
            format!("vlan({tpid}vid={},pcp={}): ", tci & 0xfff, tci >> 13)
        })
        .collect();
    if text.is_empty() { "no vlan: ".to_owned() } else { text }
}

fn mpls_text(flow: &Flow) -> String {
    if !matches!(flow.dl_type, ethertype::MPLS | ethertype::MPLS_MCAST) {
        return "no mpls: ".to_owned();
    }
    let lse = flow.mpls_lse[0];
    format!("mpls(label={},tc={},ttl={}): ", lse >> 12, lse >> 9 & 7, lse & 0xff)
}
