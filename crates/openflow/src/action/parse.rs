//! Lists of actions and instructions as text.

use super::define::ParseFn;
use super::output::Output;
use super::text::Parser;
use super::verify::{Allowed, verify};
use super::{Action, KINDS, Kind};
use super::{bundle, field, header, metadata, vlan};
use crate::{Protocols, Version};
use flow::text::key_values;

/// Names besides those in the table of actions.
static SYNONYMS: &[(&str, ParseFn)] = &[
    ("mod_vlan_vid", vlan::SetVlanVid::parse_pushing),
    ("mod_vlan_pcp", vlan::SetVlanPcp::parse_pushing),
    ("set_nw_ttl", header::SetIpTtl::parse),
    ("pop_vlan", vlan::StripVlan::parse_pop),
    ("set_tunnel64", metadata::SetTunnel::parse64),
    ("load", field::parse_load),
    ("bundle_load", bundle::Bundle::parse_load),
];

/// How deep lists may be nested in text.
const DEPTH_MAX: u8 = 100;
/// Bytes of text beyond which a list is refused. Open vSwitch bounds what the text turns into.
const TEXT_LEN_MAX: usize = 1 << 20;

/// Reads a list. `outer` is the action that contains it.
pub(super) fn list(
    p: &mut Parser<'_>,
    s: &str,
    instructions: bool,
    outer: Option<Kind>,
) -> Result<Vec<Action>, String> {
    if p.depth >= DEPTH_MAX {
        return Err("Action nested too deeply".into());
    }
    if s.len() > TEXT_LEN_MAX {
        return Err("input too big".into());
    }
    p.depth += 1;
    let result = list_at_depth(p, s, instructions, outer);
    p.depth -= 1;
    result
}

fn list_at_depth(
    p: &mut Parser<'_>,
    s: &str,
    instructions: bool,
    outer: Option<Kind>,
) -> Result<Vec<Action>, String> {
    let mut out = Vec::new();
    let mut drop = false;
    for (key, value) in key_values(s) {
        if key.eq_ignore_ascii_case("drop") {
            drop = true;
        } else {
            out.push(one(p, key, value)?);
        }
        if matches!(out.last(), Some(Action::Meter(_))) && !instructions {
            // Then `meter` is an action, as only OpenFlow 1.5 has it.
            p.protocols &= Protocols::OF15_UP;
        }
    }
    if drop && !out.is_empty() {
        return Err("\"drop\" must not be accompanied by any other action or instruction".into());
    }
    let allowed = if instructions { Allowed::All } else { Allowed::ActionsAndMeter };
    verify(&out, Version::Of11, allowed, outer).map_err(|v| v.reason)?;
    Ok(out)
}

fn one(p: &mut Parser<'_>, key: &str, value: &str) -> Result<Action, String> {
    if let Some(info) = KINDS.iter().find(|k| k.name.eq_ignore_ascii_case(key)) {
        return (info.parse)(p, value);
    }
    if let Some((_, parse)) = SYNONYMS.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)) {
        return parse(p, value);
    }
    if key.eq_ignore_ascii_case("apply_actions") {
        return Err("apply_actions is the default instruction".into());
    }
    match p.port(key) {
        Some(port) => Ok(Action::Output(Output { port, max_len: 0 })),
        None => Err(format!("unknown action {key}")),
    }
}
