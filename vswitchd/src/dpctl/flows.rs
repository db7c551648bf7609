//! Commands on the megaflows of a datapath.

use super::{Datapaths, INVALID, Output, Ports, choose, error_text, is_datapath};
use dpif::text::{
    ParsedKey, Style, actions_text, dump_line, parse_actions as read_actions, parse_key, parse_ufid,
};
use dpif::{Actions, DpFlow, Dpif, PutMode, Ufid};
use flow::Match;
use flow::text::{NoNames, parse_match};

/// Options of `dpctl/dump-flows`.
#[derive(Default)]
struct DumpOptions<'a> {
    verbose: bool,
    names: Option<bool>,
    filter: Option<&'a str>,
    kind: Option<&'a str>,
    pmd: Option<&'a str>,
    dp: Option<&'a str>,
}

/// Types of `type=` that mean flows which are not in hardware.
const SOFTWARE_TYPES: [&str; 4] = ["ovs", "non-offloaded", "dpdk-partial", "all"];
const HARDWARE_TYPES: [&str; 4] = ["tc", "dpdk", "offloaded", "partially-offloaded"];

/// `dpctl/dump-flows [-m] [--names | --no-names] [DP] [filter=..] [type=..] [pmd=..]`.
pub fn dump_flows(dps: Datapaths<'_>, args: &[&str], now_ms: u64) -> Result<String, String> {
    let o = dump_options(args);
    let dp = choose(dps, o.dp)?;
    let mut out = Output::default();
    let filter = match o.filter.map(|f| parse_match(f, &NoNames, None)).transpose() {
        Ok(m) => m.map(|(m, _)| m),
        Err(e) => {
            let text = e.to_string();
            let text = match text.strip_prefix("unknown keyword ") {
                Some(field) => format!("{}: unknown field {field}", o.filter.unwrap_or_default()),
                None => text,
            };
            out.error(&format!("Failed to parse filter ({text})"), None);
            return out.finish();
        }
    };
    if let Some(bad) = bad_type(o.kind) {
        out.error(&format!("Failed to parse type ({bad})"), Some(INVALID));
        return out.finish();
    }
    if o.kind.is_some_and(|k| k.split(',').all(|k| HARDWARE_TYPES.contains(&k))) {
        return Ok(String::new());
    }
    let ports = Ports::of(dp.as_ref());
    let name = |no| ports.name(no);
    let by_name = o.names.unwrap_or(o.verbose);
    let style = Style { verbose: o.verbose, names: by_name.then_some(&name), ..Style::default() };
    let wanted = |f: &DpFlow| o.pmd.is_none_or(|p| p == pmd_number(f)) && passes(&filter, f);
    let flows = dp.flow_dump();
    dump(&mut out, flows.iter().filter(|f| wanted(f)), &style, now_ms);
    out.finish()
}

/// The `pmd=` that means a flow's thread: `-1` for the main thread.
fn pmd_number(flow: &DpFlow) -> String {
    flow.pmd.map_or("-1".into(), |core| core.to_string())
}

fn passes(filter: &Option<Match>, flow: &DpFlow) -> bool {
    filter.as_ref().is_none_or(|m| m.matches(&flow.key))
}

/// Prints flows, under a heading for each thread.
fn dump<'a>(out: &mut Output, flows: impl Iterator<Item = &'a DpFlow>, style: &Style<'_>, now_ms: u64) {
    let mut last = None;
    for f in flows {
        if last != Some(f.pmd) {
            out.line(&match f.pmd {
                None => "flow-dump from the main thread:".to_owned(),
                Some(core) => format!("flow-dump from pmd on cpu core: {core}"),
            });
            last = Some(f.pmd);
        }
        out.line(&dump_line(f, now_ms, None, style));
    }
}

fn bad_type(kind: Option<&str>) -> Option<&str> {
    let known = |k: &&str| SOFTWARE_TYPES.contains(k) || HARDWARE_TYPES.contains(k);
    kind?.split(',').find(|k| !known(k))
}

fn dump_options<'a>(args: &[&'a str]) -> DumpOptions<'a> {
    let mut o = DumpOptions::default();
    for arg in args {
        match *arg {
            "-m" | "--more" => o.verbose = true,
            "--names" => o.names = Some(true),
            "--no-names" => o.names = Some(false),
            _ => match arg.split_once('=') {
                Some(("filter", v)) => o.filter = Some(v),
                Some(("type", v)) => o.kind = Some(v),
                Some(("pmd", v)) => o.pmd = Some(v),
                _ => o.dp = Some(arg),
            },
        }
    }
    o
}

/// Splits an optional datapath name off the front of `args`, of which `n` must remain.
fn split_dp<'a, 'b>(
    dps: Datapaths<'a>,
    args: &'b [&'b str],
    n: usize,
) -> Result<(&'a std::sync::Arc<dyn Dpif>, &'b [&'b str]), String> {
    let named = args.len() > n || (args.len() == n && n > 0 && is_datapath(dps, args[0]) && n > 1);
    let name = if named { args.first().copied() } else { None };
    let rest = if named { &args[1..] } else { args };
    Ok((choose(dps, name)?, rest))
}

/// Options before the arguments: `-s`, `-m`, `--may-create`, `--clear`, `--read-only`.
fn split_options<'a>(args: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
    args.iter().partition(|a| a.starts_with('-'))
}

/// `dpctl/add-flow [DP] FLOW ACTIONS`, and `dpctl/mod-flow` with `modify`.
pub fn add_flow(dps: Datapaths<'_>, args: &[&str], modify: bool, now_ms: u64) -> Result<String, String> {
    let (options, words) = split_options(args);
    let (dp, rest) = split_dp(dps, &words, 2)?;
    let [flow, actions] = rest else { return Err("Syntax error\n".into()) };
    let mut out = Output::default();
    put_flow(&mut out, dp.as_ref(), flow, actions, put_mode(&options, modify), &options, now_ms);
    out.finish()
}

fn put_mode(options: &[&str], modify: bool) -> PutMode {
    match (modify, options.contains(&"--may-create")) {
        (false, _) => PutMode::Create,
        (true, false) => PutMode::Modify,
        (true, true) => PutMode::CreateOrModify,
    }
}

fn put_flow(
    out: &mut Output,
    dp: &dyn Dpif,
    flow: &str,
    actions: &str,
    mode: PutMode,
    options: &[&str],
    now_ms: u64,
) {
    let ports = Ports::of(dp);
    let Some((parsed, actions)) = read_flow_and_actions(out, &ports, flow, actions) else { return };
    match dp.flow_put(mode, parsed.ufid, &parsed.key, &parsed.mask, &actions, None) {
        Err(e) => out.error("updating flow table", Some(&error_text(e))),
        Ok(Some(stats)) if options.iter().any(|o| matches!(*o, "-s" | "--statistics")) => {
            out.line(&dpif::text::stats_text(&stats, now_ms));
        }
        Ok(_) => {}
    }
}

fn read_flow_and_actions(
    out: &mut Output,
    ports: &Ports,
    flow: &str,
    actions: &str,
) -> Option<(ParsedKey, Actions)> {
    let number = |name: &str| ports.number(name);
    let parsed = match parse_key(flow, Some(&number)) {
        Ok(p) => p,
        Err(e) => {
            out.error(&format!("parsing flow key ({e})"), Some(INVALID));
            return None;
        }
    };
    match read_actions(actions, Some(&number)) {
        Some(actions) => Some((parsed, actions)),
        None => {
            out.error("parsing actions", Some(INVALID));
            None
        }
    }
}

/// `dpctl/add-flows [DP] FILE` and `dpctl/mod-flows`: a flow with its actions on each line; a line may begin
/// with `add`, `delete` or `modify`.
pub fn add_flows(dps: Datapaths<'_>, args: &[&str], modify: bool, now_ms: u64) -> Result<String, String> {
    let (options, words) = split_options(args);
    let (dp, rest) = split_dp(dps, &words, 1)?;
    let Some(file) = rest.first() else { return Err("Syntax error\n".into()) };
    let mut out = Output::default();
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) => {
            out.error(&format!("Opening file \"{file}\" failed"), Some(&stream::error_text(&e)));
            return out.finish();
        }
    };
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (command, rest) = match line.split_once(' ') {
            Some((c @ ("add" | "delete" | "modify"), rest)) => (c, rest.trim()),
            _ => (if modify { "modify" } else { "add" }, line),
        };
        match command {
            "delete" => delete_one(&mut out, dp.as_ref(), rest),
            _ => match split_actions(rest) {
                Some((flow, actions)) => {
                    let mode = put_mode(&options, command == "modify");
                    put_flow(&mut out, dp.as_ref(), flow, actions, mode, &options, now_ms);
                }
                None => out.error("parsing actions", Some(INVALID)),
            },
        }
    }
    out.finish()
}

/// A line of a dump, `FLOW, packets:.., actions:ACTIONS`, or `FLOW ACTIONS`.
fn split_actions(line: &str) -> Option<(&str, &str)> {
    match line.split_once(", packets:") {
        Some((flow, rest)) => rest.split_once("actions:").map(|(_, actions)| (flow, actions)),
        None => line.rsplit_once(' ').map(|(f, a)| (f.trim(), a.trim_start_matches("actions:"))),
    }
}

fn delete_one(out: &mut Output, dp: &dyn Dpif, text: &str) {
    let ports = Ports::of(dp);
    let number = |name: &str| ports.number(name);
    let ufid = match parse_ufid(text) {
        Some((ufid, _)) => ufid,
        None => match parse_key(text, Some(&number)) {
            Ok(p) => dp.ufid_of(&p.key),
            Err(e) => return out.error(&e.to_string(), Some(INVALID)),
        },
    };
    let is_named = parse_ufid(text).is_some();
    if !delete_everywhere(out, dp, ufid) && !is_named {
        out.line("Perhaps you need to specify a UFID?");
    }
}

/// Deletes a flow from the tables of all threads that have it, if any has.
fn delete_everywhere(out: &mut Output, dp: &dyn Dpif, ufid: Ufid) -> bool {
    let at: Vec<_> = dp.flow_dump().into_iter().filter(|f| f.ufid == ufid).map(|f| f.pmd).collect();
    if at.is_empty() {
        out.error("deleting flow", Some("No such file or directory"));
        return false;
    }
    for pmd in at {
        if let Err(e) = dp.flow_del(ufid, pmd) {
            out.error("deleting flow", Some(&error_text(e)));
        }
    }
    true
}

/// `dpctl/del-flow [DP] FLOW`.
pub fn del_flow(dps: Datapaths<'_>, args: &[&str]) -> Result<String, String> {
    let (_, words) = split_options(args);
    let (dp, rest) = split_dp(dps, &words, 1)?;
    let Some(flow) = rest.first() else { return Err("Syntax error\n".into()) };
    let mut out = Output::default();
    delete_one(&mut out, dp.as_ref(), flow);
    out.finish()
}

/// `dpctl/del-flows [DP] [FILE]`: all of them, or those that a file names.
pub fn del_flows(dps: Datapaths<'_>, args: &[&str]) -> Result<String, String> {
    let (_, words) = split_options(args);
    let (name, file) = match words[..] {
        [] => (None, None),
        [word] if is_datapath(dps, word) => (Some(word), None),
        [word] => (None, Some(word)),
        [name, file, ..] => (Some(name), Some(file)),
    };
    let dp = choose(dps, name)?;
    let mut out = Output::default();
    match file.map(|file| (file, std::fs::read_to_string(file))) {
        None => dp.flow_flush(),
        Some((_, Ok(text))) => {
            for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
                delete_one(&mut out, dp.as_ref(), line.strip_prefix("delete ").unwrap_or(line).trim());
            }
        }
        Some((file, Err(e))) => {
            // The stock daemon says so without calling it an error.
            out.error(&format!("Opening file \"{file}\" failed"), Some(&stream::error_text(&e)));
            return Ok(out.text);
        }
    }
    out.finish()
}

/// `dpctl/get-flow [DP] ufid:UFID`.
pub fn get_flow(dps: Datapaths<'_>, args: &[&str], now_ms: u64) -> Result<String, String> {
    let (options, words) = split_options(args);
    let (dp, rest) = split_dp(dps, &words, 1)?;
    let mut out = Output::default();
    let Some((ufid, _)) = rest.first().and_then(|w| parse_ufid(w)) else {
        // The stock daemon says so without calling it an error, and scripts know it.
        out.error("parsing flow ufid", None);
        return Ok(out.text);
    };
    let ports = Ports::of(dp.as_ref());
    let name = |no| ports.name(no);
    let verbose = options.contains(&"-m");
    let style = Style { verbose, names: options.contains(&"--names").then_some(&name), ..Style::default() };
    match dp.flow_dump().iter().find(|f| f.ufid == ufid) {
        Some(f) => out.line(&dump_line(f, now_ms, None, &style)),
        None => out.error("getting flow", Some("No such file or directory")),
    }
    out.finish()
}

/// `dpctl/parse-actions ACTIONS...`.
pub fn parse_actions(args: &[&str]) -> Result<String, String> {
    let mut out = Output::default();
    for arg in args {
        match read_actions(arg, None) {
            Some(actions) => out.line(&actions_text(&actions, None)),
            None => {
                out.error("odp_actions_from_string", Some(INVALID));
                break;
            }
        }
    }
    out.finish()
}
