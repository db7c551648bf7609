//! The text of actions against Debian's `ovs-ofctl parse-flow`: what is refused, and with which words; the
//! protocols that can carry what is not refused; and how it looks after a journey through bytes.
#![allow(clippy::unwrap_used)] // A test stops at what it does not expect.

use flow::eth_type;
use flow::text::{NoNames, parse_match};
use openflow::action::{CheckParams, Decoder, Encoder, Parser, Text, check, check_consistency};
use openflow::{OfError, PortNo, Protocol, Protocols, Version};
use std::fmt::Write as _;
use std::process::Command;

const CORPUS: &str = include_str!("actions/corpus.txt");
const ERRORS: &str = include_str!("actions/errors.txt");

/// What flows match, before their actions.
const MATCHES: &[&str] = &[
    "",
    "tcp,",
    "udp6,in_port=3,",
    "arp,",
    "mpls,",
    "ip,dl_vlan=5,nw_proto=132,",
    "packet_type=(1,0x894f),",
    "ip,ct_state=+trk+inv,",
    "icmp6,icmp_type=135,icmp_code=0,",
    "packet_type=(1,0x800),",
];

/// The last line that the tool prints for a flow, without what is in front of the actions, with the
/// protocols before it; or what it says instead.
fn expected(version: Version, flow_match: &str, actions: &str) -> String {
    match parse(version, flow_match, actions) {
        Ok(text) => text,
        Err(reason) => format!("ovs-ofctl: {reason}"),
    }
}

fn parse(version: Version, flow_match: &str, text: &str) -> Result<String, String> {
    let (m, mut usable) = parse_match(flow_match, &NoNames, None)?;
    let mut parser = Parser::default();
    let mut actions = parser.instructions(text)?;
    usable &= parser.protocols;
    // The older matches have no transport in IPv6.
    if m.flow.dl_type == eth_type::IPV6 && m.mask.nw_proto != 0 {
        usable &= Protocols::NXM_OXM_ANY;
    }
    let params =
        CheckParams { flow: &m.flow, mask: &m.mask, ports_max: PortNo::MAX, table_id: None, n_tables: 255 };
    let checked = check(&mut actions, &params).and_then(|p| {
        usable &= p;
        if usable.is_empty() { Err(OfError::OfpbacMatchInconsistent) } else { Ok(()) }
    });
    checked.map_err(|e| format!("actions are invalid with specified match ({e})"))?;
    let chosen = Protocol::ALL.into_iter().find(|p| p.version() == version && usable.contains(p.as_set()));
    let usable = format!("usable protocols: {}", protocols_text(usable));
    if chosen.is_none() {
        return Err(format!("no usable protocol\n{usable}"));
    }
    let mut bytes = Vec::new();
    Encoder::new(version, &mut bytes).instructions(&actions);
    // On the wire, "whatever table" is the first one.
    let params = CheckParams { table_id: Some(0).filter(|_| version > Version::Of10), ..params };
    let again = Decoder::new(version).instructions(&bytes).and_then(|mut again| {
        check_consistency(&mut again, chosen.map_or(Protocols::empty(), Protocol::as_set), &params)?;
        Ok(again)
    });
    let again = match again {
        Ok(again) => again,
        Err(e) => return Ok(format!("{usable}\ndecode error: {e}")),
    };
    let mut out = format!("{usable}\nactions=");
    Text::new(&mut out).actions(&again);
    Ok(out)
}

/// As the tool lists protocols: whole families by one name.
fn protocols_text(mut set: Protocols) -> String {
    let families = [
        ("any", Protocols::ANY),
        ("OpenFlow10", Protocols::OF10_STD_ANY),
        ("NXM", Protocols::OF10_NXM_ANY),
        ("OXM", Protocols::ANY_OXM),
    ];
    let singles = Protocol::ALL.map(|p| (p.name(), p.as_set()));
    let mut parts = Vec::new();
    for (name, family) in families.into_iter().chain(singles) {
        if set.contains(family) && !family.is_empty() {
            parts.push(name);
            set &= !family;
        }
    }
    if parts.is_empty() { "none".into() } else { parts.join(",") }
}

/// What the tool says. `None` if it is not installed.
fn ask(version: Version, flow_match: &str, actions: &str) -> Option<String> {
    let output = Command::new("ovs-ofctl")
        .args(["-voff", "-O", version.protocols_name(), "parse-flow"])
        .arg(format!("{flow_match}actions={actions}"))
        .output()
        .ok()?;
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let usable = stdout.lines().find(|l| l.starts_with("usable protocols")).unwrap_or_default();
    if let Some((_, error)) = stdout.split_once("***decode error: ") {
        return Some(format!("{usable}\ndecode error: {}", error.split('*').next().unwrap()));
    }
    Some(match (stderr.trim_end_matches('\n'), stdout.trim_end().rsplit_once("actions=")) {
        ("", Some((_, actions))) => format!("{usable}\nactions={actions}"),
        ("", None) => stdout,
        (error, _) if usable.is_empty() => error.into(),
        (error, _) => format!("{error}\n{usable}"),
    })
}

#[test]
fn texts_agree() {
    let all = std::env::var_os("ALL").is_some();
    let lines = CORPUS.lines().chain(ERRORS.lines()).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let (mut wrong, mut n_wrong, mut n) = (String::new(), 0, 0);
    for (i, line) in lines.enumerate() {
        for (j, flow_match) in MATCHES.iter().enumerate() {
            for (k, version) in Version::ALL.into_iter().enumerate() {
                // A part of all combinations, in which every line meets every version or every match.
                if !all && (j != i % MATCHES.len() || k != i % 6) && (j != 0 || k != (i + 3) % 6) {
                    continue;
                }
                let Some(theirs) = ask(version, flow_match, line) else {
                    eprintln!("ovs-ofctl is not installed: nothing compared");
                    return;
                };
                let ours = expected(version, flow_match, line);
                n += 1;
                if ours != theirs {
                    n_wrong += 1;
                    if n_wrong <= 60 {
                        let _ = writeln!(
                            wrong,
                            "{version} {flow_match}actions={line}\n  ours: {ours:?}\n  ovs:  {theirs:?}"
                        );
                    }
                }
            }
        }
    }
    assert!(n_wrong == 0, "{n_wrong} of {n} differ:\n{wrong}");
}
