//! `dpctl/*` commands on connection tracking: what is tracked, and its settings (ovs-dpctl(8)).

use super::{INVALID, Output, ct_match, names};
use conntrack::{Conntrack, LimitZone, TcpState, proto_name};
use datapath::Datapath;
use dpif::Dpif;
use dpif::ct::CtMatch;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// The datapaths of the daemon, by name order.
pub type Trackers<'a> = &'a [Arc<Datapath>];
type Answer = Result<String, String>;

fn fail(what: &str, cause: Option<&str>) -> Answer {
    let mut out = Output::default();
    out.error(what, cause);
    out.finish()
}

/// The datapath that the first argument names, or the only one, with the other arguments. `full` is the
/// number of arguments that a command has with a datapath's name.
pub(super) fn open<'d, 'a>(
    dps: Trackers<'d>,
    args: &'a [&'a str],
    full: usize,
) -> Result<(&'d Arc<Datapath>, &'a [&'a str]), String> {
    let by_name = |word: &str| dps.iter().find(|d| names(word, &d.name()));
    if let Some((first, rest)) = args.split_first()
        && let Some(dp) = by_name(first)
    {
        return Ok((dp, rest));
    }
    let mut out = Output::default();
    match dps {
        _ if args.len() == full => {}
        [one] => return Ok((one, args)),
        [] => out.error("no datapaths exist", None),
        _ => out.error("multiple datapaths, specify one", None),
    }
    out.error("datapath not found", Some(INVALID));
    out.finish().and(Err(String::new()))
}

fn without_flags<'a>(args: &[&'a str]) -> (Vec<&'a str>, bool, bool) {
    let is = |a: &&str, short: &str, long: &str| *a == short || *a == long;
    let verbose = args.iter().any(|a| is(a, "-m", "--more"));
    let stats = args.iter().any(|a| is(a, "-s", "--statistics"));
    (args.iter().copied().filter(|a| !a.starts_with('-')).collect(), verbose, stats)
}

/// Takes `zone=N` off the end.
fn take_zone(args: &mut Vec<&str>) -> Option<u16> {
    let zone = leading_number(args.last()?.strip_prefix("zone=")?)?;
    args.pop();
    Some(zone)
}

/// A number at the start of a text, as `scanf` takes it: what does not fit loses its upper bits.
pub(super) fn leading_number<T: Truncated>(text: &str) -> Option<T> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok().map(T::truncated)
}

/// The low bits of a number.
pub(super) trait Truncated {
    fn truncated(n: u64) -> Self;
}

impl Truncated for u16 {
    fn truncated(n: u64) -> Self {
        n as u16
    }
}

impl Truncated for u32 {
    fn truncated(n: u64) -> Self {
        n as u32
    }
}

/// `dpctl/dump-conntrack [-m] [-s] [DP] [zone=N]`.
pub fn dump(dps: Trackers<'_>, args: &[&str]) -> Answer {
    let (mut args, verbose, stats) = without_flags(args);
    let zone = take_zone(&mut args);
    let (dp, _) = open(dps, &args, 1)?;
    let mut out = Output::default();
    dp.conntrack().for_each(zone, dp.now_ms(), |entry| out.line(&entry.text(verbose, stats)));
    out.finish()
}

/// `dpctl/flush-conntrack [DP] [zone=N] [ORIG] [REPLY]`.
pub fn flush(dps: Trackers<'_>, args: &[&str]) -> Answer {
    let mut rest = args;
    // A datapath's name comes first, but is not needed.
    let mut dp = None;
    if let Some((first, others)) = rest.split_first()
        && let Some(named) = dps.iter().find(|d| names(first, &d.name()))
    {
        (dp, rest) = (Some(named), others);
    }
    let mut zone = None;
    if let Some((first, others)) = rest.split_first()
        && let Some(number) = first.strip_prefix("zone=")
    {
        let Some(n) = leading_number(number) else { return fail("failed to parse zone", Some(INVALID)) };
        (zone, rest) = (Some(n), others);
    }
    let mut which = CtMatch::default();
    for (i, text) in rest.iter().take(2).enumerate().filter(|(_, text)| !text.is_empty()) {
        let mut tuple = if i == 0 { which.orig } else { which.reply };
        if let Err(error) = ct_match::parse_tuple(text, &mut tuple, &mut which) {
            return fail(&error, Some(INVALID));
        }
        *(if i == 0 { &mut which.orig } else { &mut which.reply }) = tuple;
    }
    if rest.len() > 2 {
        return fail("invalid arguments", Some(INVALID));
    }
    let dp = match dp {
        Some(dp) => dp,
        None => open(dps, &[], 4)?.0,
    };
    match dp.ct_flush(zone, &which) {
        Ok(()) => Ok(String::new()),
        Err(e) => fail("failed to flush conntrack", Some(&e.to_string())),
    }
}

/// Protocols in the order in which `ct-stats-show` lists them, by number; the rest is "Other".
const LISTED: [u8; 7] = [6, 17, 136, 132, 1, 33, 2];
const ICMPV6: u8 = 58;
const TCP: u8 = 6;

/// `dpctl/ct-stats-show [DP] [zone=N] [verbose]`.
pub fn stats(dps: Trackers<'_>, args: &[&str]) -> Answer {
    let (mut args, mut verbose, _) = without_flags(args);
    let mut zone = None;
    while let Some(last) = args.last() {
        if last.starts_with("verbose") {
            verbose = true;
            args.pop();
        } else if let Some(z) = take_zone(&mut args) {
            zone = Some(z);
        } else {
            break;
        }
    }
    let (dp, _) = open(dps, &args, 1)?;
    let (mut total, mut counts) = (0u32, [0u32; 256]);
    let mut states: BTreeMap<TcpState, u32> = BTreeMap::new();
    dp.conntrack().for_each(zone, dp.now_ms(), |entry| {
        total += 1;
        counts[usize::from(entry.orig.proto)] += 1;
        if let Some(tcp) = entry.tcp {
            *states.entry(tcp.state()).or_default() += 1;
        }
    });
    let mut out = Output::default();
    out.line("Connections Stats:");
    out.line(&format!("    Total: {total}"));
    for proto in LISTED {
        let count = std::mem::take(&mut counts[usize::from(proto)]);
        if count == 0 {
            continue;
        }
        let name = proto_name(proto).unwrap_or("").to_uppercase();
        out.line(&format!("  {name}: {count}"));
        if verbose && proto == TCP {
            out.line("    Conn per TCP states:");
            states.iter().for_each(|(state, n)| out.line(&format!("\t  [{}]={n}", state.name())));
        }
    }
    // What is left is not listed, and ICMPv6 not at all.
    counts[usize::from(ICMPV6)] = 0;
    let other: u32 = counts.iter().sum();
    if other > 0 {
        out.line(&format!("  Other: {other}"));
    }
    out.finish()
}

/// `dpctl/ct-bkts [DP] [gt=N]`: all connections are in one bucket, as the userspace datapath has always said.
pub fn buckets(dps: Trackers<'_>, args: &[&str]) -> Answer {
    let (mut args, ..) = without_flags(args);
    let threshold = args.last().and_then(|a| a.strip_prefix("gt=")).and_then(leading_number::<u16>);
    if threshold.is_some() {
        args.pop();
    }
    let (dp, _) = open(dps, &args, 1)?;
    let mut n = 0usize;
    dp.conntrack().for_each(None, dp.now_ms(), |_| n += 1);
    let mut text = format!("Total Buckets: 1\nCurrent Connections: {n}\n\n");
    if n > 0 {
        let line = format!("+{}+{}+", "-".repeat(11), "-".repeat(41));
        let shown = if n > usize::from(threshold.unwrap_or(0)) { n.to_string() } else { ".".to_owned() };
        let _ = write!(text, "{line}\n|  Buckets  |         Connections per Buckets         |\n{line}");
        let _ = write!(text, "\n   0..  7   | {shown:>5}\n\n");
    }
    Ok(text)
}

/// A command that shows or changes one number.
fn number<T>(
    dps: Trackers<'_>,
    args: &[&str],
    full: usize,
    f: impl FnOnce(&Conntrack, &[&str]) -> T,
) -> Result<T, String> {
    let (args, ..) = without_flags(args);
    let (dp, rest) = open(dps, &args, full)?;
    Ok(f(dp.conntrack(), rest))
}

/// `dpctl/ct-set-maxconns [DP] N`.
pub fn set_maxconns(dps: Trackers<'_>, args: &[&str]) -> Answer {
    number(dps, args, 2, |ct, rest| match rest.last().and_then(|n| leading_number(n)) {
        Some(n) => {
            ct.set_maxconns(n);
            Ok("setting maxconns successful".to_owned())
        }
        None => fail("maxconns missing or malformed", Some(INVALID)),
    })?
}

/// `dpctl/ct-get-maxconns [DP]`.
pub fn maxconns(dps: Trackers<'_>, args: &[&str]) -> Answer {
    number(dps, args, 1, |ct, _| format!("{}\n", ct.maxconns()))
}

/// `dpctl/ct-get-nconns [DP]`.
pub fn nconns(dps: Trackers<'_>, args: &[&str]) -> Answer {
    number(dps, args, 1, |ct, _| format!("{}\n", ct.len()))
}

/// `dpctl/ct-{enable,disable}-tcp-seq-chk [DP]`.
pub fn set_sequence_check(dps: Trackers<'_>, args: &[&str], on: bool) -> Answer {
    number(dps, args, 2, |ct, _| {
        ct.set_sequence_check(on);
        format!("{} TCP sequence checking successful", if on { "enabling" } else { "disabling" })
    })
}

/// `dpctl/ct-get-tcp-seq-chk [DP]`.
pub fn sequence_check(dps: Trackers<'_>, args: &[&str]) -> Answer {
    number(dps, args, 1, |ct, _| {
        let state = if ct.checks_sequence() { "enabled" } else { "disabled" };
        format!("TCP sequence checking: {state}\n")
    })
}

/// `dpctl/ct-set-limits [DP] [default=L] [zone=N,limit=L]...`.
pub fn set_limits(dps: Trackers<'_>, args: &[&str]) -> Answer {
    let (args, ..) = without_flags(args);
    let (dp, mut rest) = open(dps, &args, usize::MAX)?;
    let mut limits = Vec::new();
    if let Some((first, others)) = rest.split_first()
        && let Some(text) = first.strip_prefix("default=")
    {
        let Some(limit) = leading_number(text) else { return fail("invalid default limit", Some(INVALID)) };
        limits.push((LimitZone::Default, limit));
        rest = others;
    }
    for text in rest {
        match ct_match::parse_limit(text) {
            Ok((zone, limit)) => limits.push((LimitZone::Zone(zone), limit)),
            Err(error) => return fail(&error, Some(INVALID)),
        }
    }
    for (zone, limit) in limits {
        let is_new = dp.conntrack().set_limit(zone, limit);
        let verb = if is_new { "Created" } else { "Changed" };
        tracing::info!(target: "conntrack", "{verb} zone limit of {limit} for zone {}", zone_number(zone));
    }
    Ok(String::new())
}

fn zone_number(zone: LimitZone) -> i32 {
    match zone {
        LimitZone::Default => -1,
        LimitZone::Zone(zone) => i32::from(zone),
    }
}

fn limit_zones(text: &str) -> Result<Vec<u16>, String> {
    let Some(list) = text.strip_prefix("zone=") else { return Err(format!("invalid argument {text}")) };
    let zones = list.split(',').filter(|z| !z.is_empty()).map(leading_number);
    zones.collect::<Option<Vec<u16>>>().ok_or_else(|| "invalid zone".to_owned())
}

/// `dpctl/ct-del-limits [DP] zone=N1[,N2]...`.
pub fn del_limits(dps: Trackers<'_>, args: &[&str]) -> Answer {
    let (args, ..) = without_flags(args);
    let (dp, rest) = open(dps, &args, 2)?;
    match limit_zones(rest.first().copied().unwrap_or("")) {
        Err(error) => fail(&error, Some(INVALID)),
        Ok(zones) => {
            for zone in zones {
                let verb = match dp.conntrack().del_limit(LimitZone::Zone(zone)) {
                    true => "Deleted zone limit for zone",
                    false => "Attempted delete of non-existent zone limit: zone",
                };
                tracing::info!(target: "conntrack", "{verb} {zone}");
            }
            Ok(String::new())
        }
    }
}

/// `dpctl/ct-get-limits [DP] [zone=N1[,N2]...]`.
pub fn limits(dps: Trackers<'_>, args: &[&str]) -> Answer {
    let (args, ..) = without_flags(args);
    let (dp, rest) = open(dps, &args, 2)?;
    let zones = match rest.first().map(|text| limit_zones(text)).transpose() {
        Ok(zones) => zones.unwrap_or_default(),
        Err(error) => return fail(&error, Some(INVALID)),
    };
    let ct = dp.conntrack();
    let mut text = format!("default limit={}", ct.default_limit());
    for l in ct.limits(&zones) {
        let _ = write!(text, "\nzone={},limit={},count={}", l.zone, l.limit, l.count);
    }
    Ok(text + "\n")
}
