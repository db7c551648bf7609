//! `dpif/*`, `upcall/*` and `revalidator/*`: a bridge's view of its datapath (ovs-vswitchd(8)).

use dpif::Dpif;
use dpif::text::{Style, dump_line};
use ofproto::fabric::Fabric;
use ofproto::switch::{State, Switch};
use ofproto::trace_cmd::Fabrics;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// `dpif/dump-dps`: one line per bridge, `TYPE@BRIDGE`.
pub fn dump_dps(fabrics: Fabrics<'_>) -> String {
    let mut names = Vec::new();
    for (kind, fabric) in fabrics {
        names.extend(fabric.read().switches.values().map(|s| format!("{kind}@{}\n", s.name)));
    }
    names.sort();
    names.concat()
}

/// `dpif/show`: datapaths with their bridges and ports.
pub fn show(fabrics: Fabrics<'_>) -> String {
    let mut out = String::new();
    for (_, fabric) in fabrics {
        let stats = fabric.dpif.stats();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}: hit:{} missed:{}", fabric.dpif.name(), stats.hit, stats.missed);
        let devices = fabric.dpif.ports();
        let state = fabric.read();
        let mut switches: Vec<&Switch> = state.switches.values().collect();
        switches.sort_by(|a, b| a.name.cmp(&b.name));
        for sw in switches {
            let _ = writeln!(out, "  {}:", sw.name);
            show_ports(&mut out, sw, &state, &devices);
        }
    }
    out
}

fn show_ports(out: &mut String, sw: &Switch, state: &State, devices: &[dpif::PortDesc]) {
    let mut ports: Vec<_> = sw.ports.values().collect();
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    for p in ports {
        let number = p.dp_port().map_or("none".to_owned(), |no| no.to_string());
        let _ = write!(out, "    {} {}/{number}: ({}", p.name, p.no.0, p.kind);
        if let ofproto::port::Attachment::Patch { peer } = &p.attachment {
            let _ = write!(out, ": peer={peer}");
        }
        if let Some(tunnel) = p.tunnel() {
            let options = tunnel.options();
            let list: Vec<String> = options.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let _ = write!(out, ": {}", list.join(", "));
        } else if let Some(device) = devices.iter().find(|d| Some(d.no) == p.dp_port()) {
            out.push_str(&crate::dpctl::options(device));
        }
        let _ = writeln!(out, ")");
    }
    let _ = state;
}

/// `dpif/dump-flows [-m] [--names | --no-names] BRIDGE`: the megaflows of packets that came in on the bridge.
pub fn dump_flows(fabrics: Fabrics<'_>, args: &[&str]) -> Result<String, String> {
    let bridge = args.last().copied().unwrap_or("");
    let verbose = args.iter().any(|a| matches!(*a, "-m" | "--more"));
    let by_name = match args.iter().rev().find(|a| matches!(**a, "--names" | "--no-names")) {
        Some(a) => *a == "--names",
        None => verbose,
    };
    let (fabric, id) = find_bridge(fabrics, bridge)?;
    let now_ms = fabric.clock.now_ms();
    let ports = fabric.dpif.ports();
    let name = |no| ports.iter().find(|p| p.no == no).map(|p| p.name.clone());
    let style = Style { verbose, names: by_name.then_some(&name), ..Style::default() };
    let mut out = String::new();
    for flow in fabric.dpif.flow_dump() {
        let owner = fabric.read().owner_of(&flow.key);
        if owner.is_some_and(|o| o.switch == id) {
            out.push_str(&bridge_line(&flow, now_ms, &style));
            out.push('\n');
        }
    }
    Ok(out)
}

/// As `dpctl/dump-flows` has it, less what only the datapath knows.
fn bridge_line(flow: &dpif::DpFlow, now_ms: u64, style: &Style<'_>) -> String {
    dump_line(flow, now_ms, None, style).replacen(", dp:ovs", "", 1).replacen(
        ", ",
        " ",
        usize::from(style.verbose),
    )
}

fn find_bridge<'a>(
    fabrics: Fabrics<'a>,
    bridge: &str,
) -> Result<(&'a Arc<Fabric>, ofproto::ids::SwitchId), String> {
    for (_, fabric) in fabrics {
        if let Some(sw) = fabric.read().switch_by_name(bridge) {
            return Ok((fabric, sw.id));
        }
    }
    Err("no such bridge".into())
}

/// `dpif/show-dp-features BRIDGE`.
pub fn show_features(fabrics: Fabrics<'_>, bridge: &str) -> Result<String, String> {
    let (fabric, _) = find_bridge(fabrics, bridge)?;
    let mut out = String::new();
    for (name, value) in fabric.dpif.features().lines() {
        let _ = writeln!(out, "{name}: {value}");
    }
    Ok(out)
}

/// `upcall/show`: megaflows and the limit, per datapath.
pub fn upcall_show(fabrics: Fabrics<'_>) -> String {
    let mut out = String::new();
    for (_, fabric) in fabrics {
        let r = fabric.flow_statistics();
        let _ = writeln!(out, "{}:", fabric.dpif.name());
        let _ = writeln!(
            out,
            "  flows         : (current {}) (avg {}) (max {}) (limit {})",
            r.current,
            r.average,
            r.max,
            fabric.dpif.flow_limit()
        );
        let _ = writeln!(out, "  dump duration : {}ms", r.dump_ms);
        let _ = writeln!(out, "  ufid enabled : {}", fabric.knobs.ufid.load(Relaxed));
        let _ = writeln!(out, "\n  0: (keys {})", fabric.megaflows.len());
    }
    out
}

/// `upcall/set-flow-limit LIMIT`.
pub fn set_flow_limit(fabrics: Fabrics<'_>, limit: &str) -> Result<String, String> {
    // As atoi(): what is no number counts as 0.
    let limit: u32 = limit.trim().parse().unwrap_or(0);
    for (_, fabric) in fabrics {
        fabric.knobs.flow_limit.store(limit.into(), Relaxed);
        fabric.dpif.set_flow_limit(limit as usize);
    }
    Ok(format!("set flow_limit to {limit}\n"))
}

/// `upcall/enable-megaflows` and its like: `what` is the thing, `on` the new setting.
pub fn enable(fabrics: Fabrics<'_>, what: Switchable, on: bool) -> String {
    for (_, fabric) in fabrics {
        match what {
            Switchable::Megaflows => {
                fabric.knobs.megaflows.store(on, Relaxed);
                fabric.steer(|r| r.purge = true);
            }
            Switchable::Ufid => fabric.knobs.ufid.store(on, Relaxed),
        }
    }
    let verb = if on { "enabled" } else { "disabled" };
    match what {
        Switchable::Megaflows => format!("megaflows {verb}"),
        Switchable::Ufid => {
            let whose = if on { " for supported datapaths" } else { "" };
            format!("Datapath dumping tersely using UFID {verb}{whose}")
        }
    }
}

/// What `upcall/enable-*` and `upcall/disable-*` switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switchable {
    Megaflows,
    Ufid,
}

/// `bridge/dump-flows [--offload-stats] BRIDGE`: every rule, those of the switch itself too.
pub fn dump_rules(fabrics: Fabrics<'_>, args: &[&str]) -> Result<String, String> {
    let bridge = args.last().copied().unwrap_or("");
    let (fabric, id) = find_bridge(fabrics, bridge).map_err(|_| "Unknown bridge".to_owned())?;
    fabric.push_stats();
    let now_ms = fabric.clock.now_ms();
    let state = fabric.read();
    let mut out = String::new();
    let Some(switch) = state.switch(id) else { return Ok(out) };
    let mut line = |rule: &ofproto::rule::Rule, priority| {
        out.push_str(&ofproto::text::rule_line(rule, priority, args.contains(&"--offload-stats"), now_ms));
        out.push('\n');
    };
    for o in switch.overrides.all() {
        line(&o.rule, o.priority);
    }
    for rule in switch.tables.iter().flat_map(|t| t.all(switch.next_place())) {
        line(&rule, rule.priority.into());
    }
    Ok(out)
}

/// `ovs-rs/drops`: what was dropped, by port and cause.
pub fn drops(datapath: &datapath::Datapath) -> String {
    let ports = datapath.ports();
    let name = |no| ports.iter().find(|p| p.no == no).map_or_else(|| no.to_string(), |p| p.name.clone());
    let mut out = String::new();
    for d in datapath.drops() {
        let _ = writeln!(out, "{}: {} {}", name(d.port), d.cause.name(), d.packets);
    }
    out
}
