//! `dpctl/ipf-*`: reassembly of fragments (ovs-dpctl(8)).

use super::conntrack::{Trackers, leading_number, open};
use super::{INVALID, Output};
use conntrack::Family;
use conntrack::ipf::FamilyStatus;
use std::fmt::Write;

type Answer = Result<String, String>;

fn fail(what: &str, cause: &str) -> Answer {
    let mut out = Output::default();
    out.error(what, Some(cause));
    out.finish()
}

/// What begins with `v4` or `v6`.
fn family(word: Option<&&str>) -> Option<Family> {
    match word?.get(..2)? {
        "v4" => Some(Family::V4),
        "v6" => Some(Family::V6),
        _ => None,
    }
}

/// `dpctl/ipf-set-{enabled,disabled} [DP] v4|v6`.
pub fn set_enabled(dps: Trackers<'_>, args: &[&str], on: bool) -> Answer {
    let (dp, rest) = open(dps, args, 3)?;
    match family(rest.last()) {
        Some(family) => {
            dp.fragments().set_enabled(family, on);
            let verb = if on { "enabling" } else { "disabling" };
            Ok(format!("{verb} fragmentation reassembly successful"))
        }
        None => fail("parameter missing: 'v4' for IPv4 or 'v6' for IPv6", INVALID),
    }
}

/// The system's word for "operation not permitted", by which a bad number is told.
const NOT_PERMITTED: &str = "Operation not permitted";

/// `dpctl/ipf-set-min-frag [DP] v4|v6 N`.
pub fn set_min_frag(dps: Trackers<'_>, args: &[&str]) -> Answer {
    let (dp, rest) = open(dps, args, 3)?;
    let word = rest.len().checked_sub(2).and_then(|at| rest.get(at));
    let Some(family) = family(word) else {
        return fail("parameter missing: v4 for IPv4 or v6 for IPv6", INVALID);
    };
    match rest.last().and_then(|n| leading_number(n)) {
        None => fail("parameter missing for minimum fragment size", INVALID),
        Some(n) if dp.fragments().set_min_frag(family, n) => {
            Ok("setting minimum fragment size successful".to_owned())
        }
        Some(_) => fail("requested minimum fragment size too small; see documentation", NOT_PERMITTED),
    }
}

/// `dpctl/ipf-set-max-nfrags [DP] N`.
pub fn set_max_nfrags(dps: Trackers<'_>, args: &[&str]) -> Answer {
    let (dp, rest) = open(dps, args, 2)?;
    match rest.last().and_then(|n| leading_number(n)) {
        None => fail("parameter missing for maximum fragments", INVALID),
        Some(n) if dp.fragments().set_nfrag_max(n) => Ok("setting maximum fragments successful".to_owned()),
        Some(_) => fail("setting maximum fragments failed", NOT_PERMITTED),
    }
}

/// `dpctl/ipf-get-status [-m] [DP]`.
pub fn status(dps: Trackers<'_>, args: &[&str]) -> Answer {
    let verbose = args.iter().any(|a| matches!(*a, "-m" | "--more"));
    let words: Vec<&str> = args.iter().copied().filter(|a| !a.starts_with('-')).collect();
    let (dp, _) = open(dps, &words, 1)?;
    let ipf = dp.fragments();
    let (v4, v6) = (ipf.status(Family::V4), ipf.status(Family::V6));
    let (max, n) = ipf.nfrag();
    let mut lines = vec![
        "Fragmentation Module Status".to_owned(),
        "---------------------------".to_owned(),
        format!("v4 enabled: {}", u8::from(v4.enabled)),
        format!("v6 enabled: {}", u8::from(v6.enabled)),
        format!("max num frags (v4/v6): {max}"),
        format!("num frag: {n}"),
    ];
    lines.extend(counters("v4", &v4));
    lines.extend(counters("v6", &v6));
    let mut text = String::new();
    for line in lines {
        let _ = writeln!(text, "        {line}");
    }
    if verbose {
        text.push_str("\n        Fragment Lists:\n\n");
        ipf.lists().iter().for_each(|l| text.extend([l.as_str(), "\n"]));
    }
    Ok(text)
}

fn counters(name: &str, s: &FamilyStatus) -> [String; 7] {
    [
        format!("min {name} frag size: {}", s.min_frag),
        format!("{name} frags accepted: {}", s.accepted),
        format!("{name} frags completed: {}", s.completed_sent),
        format!("{name} frags expired: {}", s.expired_sent),
        format!("{name} frags too small: {}", s.too_small),
        format!("{name} frags overlapped: {}", s.overlap),
        format!("{name} frags purged: {}", s.purged),
    ]
}
