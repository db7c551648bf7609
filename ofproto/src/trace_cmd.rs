//! `ofproto/trace` and `ofproto/trace-packet-out` (ovs-vswitchd(8)).

use crate::effects::{Effect, Passed};
use crate::fabric::Fabric;
use crate::ids::{OfPort, SwitchId};
use crate::rule::Count;
use crate::switch::{State, Switch};
use crate::text::SwitchPorts;
use crate::xlate::trace::{self, Trace};
use crate::xlate::{SwitchInput, Translation, translate_switch};
use dpif::{Action, Actions, DropReason, SlowPath};
use flow::text::{NoNames, PortNames, flow_to_string, format_match, parse_exact_flow};
use flow::{Flow, Match, ct_state};
use openflow::action::{self, Action as OfAction, AddrRange};
use packet::Packet;
use packet::compose::{Payload, compose};
use packet::parse::{CtMeta, Meta};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Bytes of payload of a packet made by `-generate`, unless told otherwise.
const L7_LEN_DEFAULT: usize = 64;
const L7_LEN_MAX: usize = 64_000;
/// Recirculations that one trace follows.
const RECIRC_MAX: usize = 64;

/// Finds the fabric of a datapath by its type name (`netdev`, `ovs-netdev`), or the only one.
pub type Fabrics<'a> = &'a [(&'a str, &'a Arc<Fabric>)];

#[derive(Default)]
struct Options<'a> {
    generate: bool,
    l7: Option<Vec<u8>>,
    l7_len: Option<usize>,
    names: bool,
    consistent: bool,
    ct_next: Vec<u32>,
    words: Vec<&'a str>,
}

/// What to trace.
struct Target<'a> {
    fabric: &'a Arc<Fabric>,
    switch: SwitchId,
    flow: Flow,
    packet: Option<Packet>,
}

/// `ofproto/trace ARGS`: the reply, or the error text.
pub fn run(fabrics: Fabrics<'_>, args: &[&str]) -> Result<String, String> {
    let options = parse_options(args)?;
    let target = find_target(fabrics, &options)?;
    Ok(trace_all(target, None, &options))
}

/// `ofproto/trace-packet-out ARGS ACTIONS`.
pub fn run_packet_out(fabrics: Fabrics<'_>, args: &[&str]) -> Result<String, String> {
    let Some((actions, args)) = args.split_last() else { return Err("Syntax error".into()) };
    let mut list = action::Parser::new(&NoNames).actions(actions)?;
    let options = parse_options(args)?;
    let target = find_target(fabrics, &options)?;
    check_actions(&mut list, &target.flow, options.consistent).map_err(|e| format!("Bad actions: {e}"))?;
    Ok(trace_all(target, Some(&list), &options))
}

fn check_actions(list: &mut [OfAction], flow: &Flow, consistent: bool) -> Result<(), openflow::OfError> {
    let params = action::CheckParams {
        flow,
        mask: &flow::Mask::for_packet(flow),
        ports_max: OfPort::MAX,
        table_id: Some(0),
        n_tables: 255,
    };
    let usable = action::check(list, &params)?;
    if consistent && usable.is_empty() { Err(openflow::OfError::OfpbacMatchInconsistent) } else { Ok(()) }
}

fn parse_options<'a>(args: &[&'a str]) -> Result<Options<'a>, String> {
    let mut o = Options::default();
    let mut args = args.iter().copied();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("Missing argument for option {arg}"));
        match arg {
            "-generate" | "--generate" => o.generate = true,
            "-names" | "--names" => o.names = true,
            "-consistent" | "--consistent" => o.consistent = true,
            "--l7" => o.l7 = Some(hex(value()?).ok_or("Trailing garbage in packet data")?),
            "--l7-len" => {
                let text = value()?;
                let len = text.parse().unwrap_or(0);
                if len > L7_LEN_MAX {
                    return Err(format!("{text}: too much L7 data"));
                }
                o.l7_len = Some(len);
            }
            "--ct-next" => o.ct_next.push(parse_ct_state(value()?)?),
            _ if arg.starts_with('-') => return Err(format!("{arg}: unknown option")),
            _ if o.words.len() == 3 => return Err("too many arguments".into()),
            _ => o.words.push(arg),
        }
    }
    Ok(o)
}

/// Bits of `ct_state` with their names.
const CT_STATES: [(u32, &str); 8] = [
    (ct_state::NEW, "new"),
    (ct_state::EST, "est"),
    (ct_state::REL, "rel"),
    (ct_state::RPL, "rpl"),
    (ct_state::INV, "inv"),
    (ct_state::TRK, "trk"),
    (ct_state::SNAT, "snat"),
    (ct_state::DNAT, "dnat"),
];

fn ct_state_text(state: u32) -> String {
    let names: Vec<_> = CT_STATES.iter().filter(|(bit, _)| state & bit != 0).map(|(_, n)| *n).collect();
    if names.is_empty() { "0".to_owned() } else { names.join("|") }
}

/// Connection state from text like `trk,new` (ovs-fields(7) says which bits go together).
fn parse_ct_state(text: &str) -> Result<u32, String> {
    let mut state = 0;
    for word in text.split([',', ' ']).filter(|w| !w.is_empty()) {
        let known = CT_STATES.iter().find(|(_, name)| *name == word);
        let (bit, _) = known.ok_or_else(|| format!("{word}: unknown connection tracking state flag"))?;
        state |= bit;
    }
    let has = |bits: u32| state & bits != 0;
    let rules = [
        (has(!0) && !has(ct_state::TRK), "If \"trk\" is unset, no other flags are set"),
        (
            has(ct_state::INV) && has(!(ct_state::TRK | ct_state::INV)),
            "when \"inv\" is set, only \"trk\" may also be set",
        ),
        (has(ct_state::NEW) && has(ct_state::EST), "\"new\" and \"est\" are mutually exclusive"),
        (has(ct_state::NEW) && has(ct_state::RPL), "\"new\" and \"rpy\" are mutually exclusive"),
    ];
    let broken = rules.iter().filter(|(is_broken, _)| *is_broken);
    let text: String = broken
        .map(|(_, why)| format!("{}: invalid connection state: {why}\n", ct_state_text(state)))
        .collect();
    if text.is_empty() { Ok(state) } else { Err(text) }
}

/// Bytes from hexadecimal digits with optional white space.
fn hex(s: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        s.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let pair = |p: &[u32]| Some((p[0] << 4 | p.get(1)?) as u8);
    digits.chunks(2).map(pair).collect()
}

/// An Ethernet frame from hexadecimal text.
fn frame(s: &str) -> Result<Packet, String> {
    let bytes = hex(s).ok_or("Trailing garbage in packet data")?;
    if bytes.len() < 14 {
        return Err("Packet data too short for Ethernet".into());
    }
    Ok(Packet::from_slice(&bytes))
}

fn find_target<'a>(fabrics: Fabrics<'a>, o: &Options<'_>) -> Result<Target<'a>, String> {
    let mut words = o.words.clone();
    let mut packet = None;
    if !o.generate && words.len() > 1 {
        match words.last().map(|w| frame(w)) {
            Some(Ok(p)) => {
                packet = Some(p);
                words.pop();
            }
            Some(Err(e)) if words.len() > 2 => return Err(e),
            _ => {}
        }
    }
    let mut target = match words[..] {
        [flow] => parse_flow(fabrics, None, flow)?,
        [place, flow] => parse_flow(fabrics, Some(place), flow)?,
        _ => return Err("Syntax error".into()),
    };
    if o.generate {
        let payload = match &o.l7 {
            Some(bytes) => Payload::Bytes(bytes),
            None => Payload::Count(o.l7_len.unwrap_or(L7_LEN_DEFAULT)),
        };
        target.packet = Some(compose(&target.flow, payload));
    } else if let Some(mut p) = packet {
        target.flow = reparse(&mut p, &target.flow);
        target.packet = Some(p);
    }
    Ok(target)
}

/// The key of a given packet with the context of a given flow.
fn reparse(packet: &mut Packet, context: &Flow) -> Flow {
    let ct = CtMeta::of_flow(context);
    let meta = Meta {
        in_port: context.in_port,
        recirc_id: context.recirc_id,
        dp_hash: context.dp_hash,
        skb_priority: context.skb_priority,
        pkt_mark: context.pkt_mark,
        ct: Some(&ct),
        tunnel: Some(&context.tunnel),
        ..Meta::default()
    };
    let mut flow = packet::parse::flow_of(packet, &meta);
    flow.metadata = context.metadata;
    flow.regs = context.regs;
    flow
}

/// Reads a flow in datapath syntax, or in OpenFlow syntax if a bridge is named.
fn parse_flow<'a>(fabrics: Fabrics<'a>, place: Option<&str>, text: &str) -> Result<Target<'a>, String> {
    let by_type = |name: &str| {
        let name = name.strip_prefix("ovs-").unwrap_or(name);
        fabrics.iter().find(|(kind, _)| *kind == name).map(|(_, f)| *f)
    };
    let fabric = match place {
        Some(name) => by_type(name),
        None if fabrics.len() == 1 => fabrics.first().map(|(_, f)| *f),
        None => None,
    };
    let ports = fabric.map(|f| f.dpif.ports()).unwrap_or_default();
    let number = |name: &str| ports.iter().find(|p| p.name == name).map(|p| p.no);
    match dpif::text::parse_exact_key(text, Some(&number)) {
        Ok((key, _)) => datapath_target(fabric.ok_or("Cannot find the datapath")?, key),
        Err(e) => match place {
            None => Err(format!("{e} (or the bridge name was omitted)")),
            Some(bridge) => bridge_target(fabrics, bridge, text),
        },
    }
}

fn datapath_target(fabric: &Arc<Fabric>, key: Flow) -> Result<Target<'_>, String> {
    let owner = if key.tunnel.is_set() {
        let owner = fabric.read().tunnels.receive(&key);
        owner.ok_or("no OpenFlow tunnel port for this packet")?
    } else {
        let owner = fabric.read().owners.get(&dpif::PortNo(key.in_port)).copied();
        owner.ok_or_else(|| format!("no OpenFlow port for datapath port {}", key.in_port))?
    };
    let mut flow = key;
    flow.in_port = owner.port.0.into();
    Ok(Target { fabric, switch: owner.switch, flow, packet: None })
}

fn bridge_target<'a>(fabrics: Fabrics<'a>, bridge: &str, text: &str) -> Result<Target<'a>, String> {
    for (_, fabric) in fabrics {
        let state = fabric.read();
        if let Some(sw) = state.switch_by_name(bridge) {
            let (flow, _) = parse_exact_flow(text, Some(&sw.tlv), &SwitchPorts(sw))
                .map_err(|e| format!("Bad openflow flow syntax: {e}"))?;
            return Ok(Target { fabric, switch: sw.id, flow, packet: None });
        }
    }
    Err(format!("{bridge}: unknown bridge"))
}

/// Traces the packet, and what recirculates, until all is done.
fn trace_all(target: Target<'_>, actions: Option<&[OfAction]>, o: &Options<'_>) -> String {
    let mut out = String::new();
    let mut waiting = std::collections::VecDeque::new();
    let recircs = trace_one(&mut out, &target, &target.flow, None, actions, o.names);
    waiting.extend(recircs);
    let mut rounds = 0;
    let mut ct_next = o.ct_next.iter().copied();
    while let Some(mut recirc) = waiting.pop_front() {
        rounds += 1;
        if rounds > RECIRC_MAX {
            break;
        }
        let rule = "=".repeat(79);
        let _ = write!(out, "\n\n{rule}\nrecirc({:#x})", recirc.id);
        resume_conntrack(&mut out, &mut recirc, ct_next.next());
        let _ = write!(out, "{rule}\n\n");
        let recircs = trace_one(&mut out, &target, &recirc.flow, Some(recirc.id), None, o.names);
        waiting.extend(recircs);
    }
    out
}

/// A packet that comes back.
struct Recirc {
    id: u32,
    flow: Flow,
    nat: Option<action::Nat>,
}

/// What connection tracking might have said of the packet: what was asked for, or that it is new. A
/// translation takes the first address and port that it may.
fn resume_conntrack(out: &mut String, recirc: &mut Recirc, wanted: Option<u32>) {
    const DEFAULT: u32 = ct_state::TRK | ct_state::NEW;
    recirc.flow.ct_state = wanted.unwrap_or(DEFAULT);
    let _ = match wanted {
        None => {
            writeln!(out, " - resume conntrack with default ct_state=trk|new (use --ct-next to customize)")
        }
        Some(state) => writeln!(out, " - resume conntrack with ct_state={}", ct_state_text(state)),
    };
    let Some(nat) = &recirc.nat else { return };
    let f = &mut recirc.flow;
    let _ = writeln!(out, "Replacing src/dst IP/ports to simulate NAT:");
    let _ = writeln!(out, " Initial flow: {}", addresses(f, nat));
    let is_src = nat.flags.contains(action::NatFlags::SRC);
    let is_dst = nat.flags.contains(action::NatFlags::DST);
    match nat.addr {
        Some(AddrRange::V4(first, _)) => {
            let first = first.into();
            f.nw_src = if is_src { first } else { f.nw_src };
            f.nw_dst = if is_dst { first } else { f.nw_dst };
        }
        Some(AddrRange::V6(first, _)) => {
            let first: flow::U128 = u128::from(first).into();
            f.ipv6_src = if is_src { first } else { f.ipv6_src };
            f.ipv6_dst = if is_dst { first } else { f.ipv6_dst };
        }
        None => {}
    }
    if nat.addr.is_some() && nat.port_min != 0 {
        f.tp_src = if is_src { nat.port_min } else { f.tp_src };
        f.tp_dst = if is_dst { nat.port_min } else { f.tp_dst };
    }
    let _ = writeln!(out, " Modified flow: {}", addresses(f, nat));
}

/// Addresses and ports of a packet, of the family that is translated.
fn addresses(f: &Flow, nat: &action::Nat) -> String {
    let (sport, dport) = (f.tp_src, f.tp_dst);
    match nat.addr {
        Some(AddrRange::V4(..)) => {
            let (src, dst) = (Ipv4Addr::from(f.nw_src), Ipv4Addr::from(f.nw_dst));
            format!("nw_src={src},tp_src={sport},nw_dst={dst},tp_dst={dport}")
        }
        Some(AddrRange::V6(..)) => {
            let address = |a: flow::U128| Ipv6Addr::from(u128::from(a));
            let (src, dst) = (address(f.ipv6_src), address(f.ipv6_dst));
            format!("ipv6_src=[{src}],tp_src={sport},ipv6_dst=[{dst}],tp_dst={dport}")
        }
        None => String::new(),
    }
}

/// Traces one pass; returns the recirculations that it leads to.
fn trace_one(
    out: &mut String,
    target: &Target<'_>,
    flow: &Flow,
    recirc: Option<u32>,
    actions: Option<&[OfAction]>,
    names: bool,
) -> Vec<Recirc> {
    let fabric = target.fabric;
    let mut flow = flow.clone();
    flow.actset_output = OfPort::UNSET.0.into();
    let input = || SwitchInput {
        switch: target.switch,
        flow: flow.clone(),
        packet: target.packet.as_ref(),
        actions,
        is_packet_out: false,
        frozen: recirc.and_then(|id| fabric.recirc.get(id)),
        trace: Some(Trace::default()),
    };
    let mut state = fabric.read();
    let mut t = translate_switch(fabric, &state, input());
    if t.missed_lessons && target.packet.is_some() {
        drop(state);
        fabric.take_lessons(t);
        state = fabric.read();
        t = translate_switch(fabric, &state, input());
    }
    let Some(switch) = state.switch(target.switch) else { return Vec::new() };
    let nodes = t.trace.take().map(Trace::into_nodes).unwrap_or_default();
    print_result(out, switch, &flow, &t, &nodes, names.then_some(&state));
    drop(state);
    fabric.recirc.retire(t.recircs.clone(), fabric.clock.now_ms());
    ask_neighbours(fabric, &t.effects);
    if t.error == DropReason::Ok
        && let Some(packet) = &target.packet
    {
        run_side_effects(fabric, packet, &flow, &t.actions);
        learn(fabric, packet, &flow, &t.effects);
    }
    recirculations(&t)
}

fn print_result(
    out: &mut String,
    switch: &Switch,
    flow: &Flow,
    t: &Translation,
    nodes: &[trace::Node],
    names: Option<&State>,
) {
    let ports: &dyn PortNames = if names.is_some() { &SwitchPorts(switch) } else { &NoNames };
    // Writing to a string cannot fail.
    let _ = writeln!(out, "Flow: {}", flow_to_string(flow, ports, Some(&switch.tlv)));
    trace::print(out, nodes, 0);
    let last = match t.flow == *flow {
        true => "unchanged".to_owned(),
        false => flow_to_string(&t.flow, ports, Some(&switch.tlv)),
    };
    let _ = writeln!(out, "\nFinal flow: {last}");
    let megaflow = Match::new(flow, t.mask.clone());
    let _ = writeln!(out, "Megaflow: {}", format_match(&megaflow, None, ports, Some(&switch.tlv)));
    let _ = write!(out, "Datapath actions: {}", dpif::text::actions_text(&t.actions, None));
    if t.error != DropReason::Ok {
        let _ = writeln!(out, "\nTranslation failed ({}), packet is dropped.", t.error.text());
    } else if !t.slow.is_empty() {
        explain_slow_path(out, t.slow);
    }
}

fn explain_slow_path(out: &mut String, slow: SlowPath) {
    out.push_str("\nThis flow is handled by the userspace slow path because it:");
    let reasons = [
        (SlowPath::CFM, "Consists of CFM packets"),
        (SlowPath::BFD, "Consists of BFD packets"),
        (SlowPath::LACP, "Consists of LACP packets"),
        (SlowPath::STP, "Consists of STP packets"),
        (SlowPath::LLDP, "Consists of LLDP packets"),
        (SlowPath::ACTION, "Uses action(s) not supported by datapath"),
        (SlowPath::MATCH, "Needs more specific match than datapath can do"),
    ];
    for (_, text) in reasons.iter().filter(|(bit, _)| slow.contains(*bit)) {
        let _ = write!(out, "\n  - {text}.");
    }
}

/// What a trace with a packet does besides forwarding: packets for the controller are really sent.
fn run_side_effects(fabric: &Fabric, packet: &Packet, flow: &Flow, actions: &Actions) {
    let pruned = without_outputs(actions);
    if pruned.iter().any(|a| matches!(a, Action::Userspace(_) | Action::Clone(_) | Action::Ct(_))) {
        fabric.dpif.execute(packet.clone(), flow, &pruned);
    }
}

/// Questions where neighbours are, which a trace asks as a packet would.
fn ask_neighbours(fabric: &Fabric, effects: &[Effect]) {
    let questions: Vec<Effect> =
        effects.iter().filter(|e| matches!(e, Effect::Solicit(_))).cloned().collect();
    let count = Count { packets: 1, bytes: 0 };
    fabric.credit(&questions, Passed { count, used_ms: fabric.clock.now_ms(), tcp_flags: 0 });
}

/// What the packet teaches: addresses and flows.
fn learn(fabric: &Fabric, packet: &Packet, flow: &Flow, effects: &[Effect]) {
    let lessons: Vec<Effect> = effects
        .iter()
        .filter(|e| {
            matches!(
                e,
                Effect::Mac { .. }
                    | Effect::Learn { .. }
                    | Effect::FinTimeout { .. }
                    | Effect::Neighbour { .. }
            )
        })
        .cloned()
        .collect();
    let passed = Passed {
        count: Count { packets: 1, bytes: packet.len() as u64 },
        used_ms: fabric.clock.now_ms(),
        tcp_flags: flow.tcp_flags,
    };
    fabric.credit(&lessons, passed);
}

fn without_outputs(actions: &Actions) -> Actions {
    let keep = |a: &Action| match a {
        Action::Output(_) | Action::Recirc(_) | Action::LbOutput(_) => None,
        Action::TunnelPush(_) | Action::TunnelPop(_) => None,
        Action::Clone(inner) => Some(Action::Clone(without_outputs(inner))),
        other => Some(other.clone()),
    };
    actions.iter().filter_map(keep).collect()
}

/// As in the stock daemon, a trace follows what comes back from connection tracking; what else recirculates
/// depends on what the datapath finds out.
fn recirculations(t: &Translation) -> Vec<Recirc> {
    t.ct_recircs.iter().map(|r| Recirc { id: r.id, flow: r.flow.clone(), nat: r.nat }).collect()
}
