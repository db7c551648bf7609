//! Commands of the control socket over datapaths and their switches: `dpctl/*`, `dpif/*`, `dpif-netdev/*`,
//! `upcall/*`, `revalidator/*`, `ofproto/trace*`, `bridge/*`.

use crate::bridge::Bridges;
use crate::dpctl::conntrack::{self, Trackers};
use crate::dpctl::{self, Datapaths, fragments, manage};
use crate::dpif_commands::{self, Switchable};
use datapath::{PerfShown, Supervision};
use dpif::Dpif;
use ofproto::fabric::Fabric;
use ofproto::trace_cmd::{self, Fabrics};
use std::cell::Cell;
use std::sync::Arc;
use tracing::info;
use unixctl::{Registry, Reply, UNLIMITED};

type Answer = Result<String, String>;

/// The commands, over [`Bridges`].
pub fn registry() -> Registry<Bridges> {
    let mut r = Registry::new();
    add_dpctl(&mut r);
    add_dpif(&mut r);
    add_datapath(&mut r);
    add_supervision(&mut r);
    crate::implementation_commands::add(&mut r);
    add_upcall(&mut r);
    add_revalidator(&mut r);
    add_switch(&mut r);
    r
}

/// Runs `f` over the datapaths.
fn on_datapaths(b: &Bridges, f: impl FnOnce(Datapaths<'_>, u64) -> Answer) -> Answer {
    let all: Vec<Arc<dyn Dpif>> = b.layers().datapaths().into_iter().map(|d| d as Arc<dyn Dpif>).collect();
    f(&all, b.now_ms())
}

/// Runs `f` over the fabrics, by datapath type.
fn on_fabrics<T>(b: &Bridges, f: impl FnOnce(Fabrics<'_>) -> T) -> T {
    let all: Vec<(&str, &Arc<Fabric>)> = b.layers().domains().map(|(kind, d)| (kind, &d.fabric)).collect();
    f(&all)
}

/// What runs a command.
enum Run {
    /// Datapaths, arguments, and the clock in milliseconds.
    Flows(fn(Datapaths<'_>, &[&str], u64) -> Answer),
    Tracker(fn(Trackers<'_>, &[&str]) -> Answer),
    Manage(fn(&mut Bridges, &[&str]) -> Answer),
}
use Run::{Flows, Manage, Tracker};

/// Name without its `dpctl/`, usage, least and most arguments; in the order of `dpctl/list-commands`.
const DPCTL: [(&str, &str, usize, usize, Run); 39] = [
    ("add-dp", "dp [iface...]", 1, UNLIMITED, Manage(manage::add_dp)),
    ("del-dp", "dp", 1, 1, Manage(manage::del_dp)),
    ("add-if", "dp iface...", 2, UNLIMITED, Manage(manage::add_if)),
    ("del-if", "dp iface...", 2, UNLIMITED, Manage(manage::del_if)),
    ("set-if", "dp iface...", 2, UNLIMITED, Manage(manage::set_if)),
    ("dump-dps", "", 0, 0, Flows(|dps, _, _| dpctl::dump_dps(dps))),
    ("show", "[-s] [dp...]", 0, UNLIMITED, Flows(|dps, args, _| dpctl::show(dps, args))),
    ("dump-flows", "[-m] [--names] [dp] [filter=..] [type=..] [pmd=..]", 0, 8, Flows(dpctl::dump_flows)),
    ("add-flow", PUT, 2, 8, Flows(|dps, args, now_ms| dpctl::add_flow(dps, args, false, now_ms))),
    ("mod-flow", PUT, 2, 8, Flows(|dps, args, now_ms| dpctl::add_flow(dps, args, true, now_ms))),
    ("get-flow", "[dp] ufid", 1, 4, Flows(dpctl::get_flow)),
    ("del-flow", "[dp] flow", 1, 4, Flows(|dps, args, _| dpctl::del_flow(dps, args))),
    ("add-flows", "[dp] file", 1, 4, Flows(|dps, args, now_ms| dpctl::add_flows(dps, args, false, now_ms))),
    ("mod-flows", "[dp] file", 1, 4, Flows(|dps, args, now_ms| dpctl::add_flows(dps, args, true, now_ms))),
    ("del-flows", "[dp] [file]", 0, 2, Flows(|dps, args, _| dpctl::del_flows(dps, args))),
    ("offload-stats-show", "[dp]", 0, UNLIMITED, Flows(|dps, args, _| dpctl::offload_stats(dps, args))),
    ("dump-conntrack", "[-m] [-s] [dp] [zone=N]", 0, 6, Tracker(conntrack::dump)),
    ("flush-conntrack", "[dp] [zone=N] [ct-orig-tuple] [ct-reply-tuple]", 0, 4, Tracker(conntrack::flush)),
    ("cache-get-size", "[dp]", 0, UNLIMITED, Flows(|dps, args, _| dpctl::cache_sizes(dps, args))),
    ("cache-set-size", "dp cache <size>", 3, 3, Manage(manage::cache_set_size)),
    ("ct-stats-show", "[dp] [zone=N]", 0, 5, Tracker(conntrack::stats)),
    ("ct-bkts", "[dp] [gt=N]", 0, 2, Tracker(conntrack::buckets)),
    ("ct-set-maxconns", "[dp] maxconns", 1, 2, Tracker(conntrack::set_maxconns)),
    ("ct-get-maxconns", "[dp]", 0, 1, Tracker(conntrack::maxconns)),
    ("ct-get-nconns", "[dp]", 0, 1, Tracker(conntrack::nconns)),
    ("ct-enable-tcp-seq-chk", "[dp]", 0, 1, Tracker(|d, args| conntrack::set_sequence_check(d, args, true))),
    (
        "ct-disable-tcp-seq-chk",
        "[dp]",
        0,
        1,
        Tracker(|d, args| conntrack::set_sequence_check(d, args, false)),
    ),
    ("ct-get-tcp-seq-chk", "[dp]", 0, 1, Tracker(conntrack::sequence_check)),
    ("ct-set-limits", "[dp] [default=L] [zone=N,limit=L]...", 1, UNLIMITED, Tracker(conntrack::set_limits)),
    ("ct-del-limits", "[dp] zone=N1[,N2]...", 1, 2, Tracker(conntrack::del_limits)),
    ("ct-get-limits", "[dp] [zone=N1[,N2]...]", 0, 2, Tracker(conntrack::limits)),
    ("ipf-set-enabled", "[dp] v4|v6", 1, 2, Tracker(|d, args| fragments::set_enabled(d, args, true))),
    ("ipf-set-disabled", "[dp] v4|v6", 1, 2, Tracker(|d, args| fragments::set_enabled(d, args, false))),
    ("ipf-set-min-frag", "[dp] v4|v6 minfragment", 2, 3, Tracker(fragments::set_min_frag)),
    ("ipf-set-max-nfrags", "[dp] maxfrags", 1, 2, Tracker(fragments::set_max_nfrags)),
    ("ipf-get-status", "[dp]", 0, 3, Tracker(fragments::status)),
    ("list-commands", "", 0, UNLIMITED, Flows(|_, _, _| Ok(dpctl_commands()))),
    ("parse-actions", "actions", 1, UNLIMITED, Flows(|_, args, _| dpctl::parse_actions(args))),
    ("normalize-actions", "actions", 2, UNLIMITED, Flows(|_, args, _| dpctl::normalize_actions(args))),
];
const PUT: &str = "[dp] flow actions";

fn add_dpctl(r: &mut Registry<Bridges>) {
    for (name, usage, min, max, run) in DPCTL {
        r.add_sync(&format!("dpctl/{name}"), usage, min, max, move |b: &mut Bridges, args| {
            let args = dpctl::check_options(args)?;
            match &run {
                Flows(f) => on_datapaths(b, |dps, now_ms| f(dps, &args, now_ms)),
                Tracker(f) => f(&b.layers().datapaths(), &args),
                Manage(f) => f(b, &args),
            }
        });
    }
}

fn dpctl_commands() -> String {
    let lines = DPCTL.map(|(name, usage, ..)| format!("  dpctl/{name:<23} {usage}\n"));
    format!("The available commands are:\n{}", lines.concat())
}

fn add_dpif(r: &mut Registry<Bridges>) {
    r.add_sync("dpif/dump-dps", "", 0, 0, |b: &mut Bridges, _| Ok(on_fabrics(b, dpif_commands::dump_dps)));
    r.add_sync("dpif/show", "", 0, 0, |b, _| Ok(on_fabrics(b, dpif_commands::show)));
    r.add_sync("dpif/dump-flows", "[-m] [--names | --no-names] bridge", 1, UNLIMITED, |b, args| {
        on_fabrics(b, |all| dpif_commands::dump_flows(all, args))
    });
    r.add_sync("dpif/show-dp-features", "bridge", 1, 1, |b, args| {
        on_fabrics(b, |all| dpif_commands::show_features(all, args.first().unwrap_or(&"")))
    });
}

/// The number behind an option of the `dpif-netdev/*` commands.
fn option(args: &[&str], name: &str) -> Option<u32> {
    let at = args.iter().position(|a| *a == name)?;
    args.get(at + 1)?.parse().ok()
}

/// What of `pmd-perf-show` is wanted.
fn perf_shown(args: &[&str]) -> PerfShown {
    let last = |name| option(args, name).unwrap_or(0) as usize;
    PerfShown { histograms: !args.contains(&"-nh"), turns: last("-it"), milliseconds: last("-ms") }
}

/// `dpif-netdev/pmd-perf-log-set`: all datapaths are supervised alike.
fn add_supervision(r: &mut Registry<Bridges>) {
    const LOG_SET: &str = "on|off [-b before] [-a after] [-e|-ne] [-us usec] [-q qlen]";
    const USAGE: &str = "Usage: ovs-appctl dpif-netdev/pmd-perf-log-set \
        [on|off] [-b before] [-a after] [-e|-ne] [-us usec] [-q qlen]";
    let current = Cell::new(Supervision::default());
    r.add_sync("dpif-netdev/pmd-perf-log-set", LOG_SET, 0, 10, move |b: &mut Bridges, args| {
        let new = current.get().with(args).ok_or(USAGE)?;
        info!(target: "pmd_perf", "pmd-perf-log-set: {new}");
        current.set(new);
        b.layers().domains().for_each(|(_, d)| d.datapath.supervise(new));
        Ok(String::new())
    });
}

/// The datapaths that the last argument names, or all.
fn named_datapaths<'a>(b: &'a Bridges, args: &[&str]) -> Result<Vec<&'a datapath::Datapath>, String> {
    let mut rest = args.iter();
    let mut wanted = None;
    while let Some(arg) = rest.next() {
        match *arg {
            "-pmd" | "-secs" | "-it" | "-ms" => drop(rest.next()),
            "-nh" => {}
            name => wanted = Some(name),
        }
    }
    let all = b.layers().domains().map(|(_, d)| d.datapath.as_ref());
    let found: Vec<_> = all.filter(|d| wanted.is_none_or(|w| dpctl::names(w, &d.name()))).collect();
    if found.is_empty() { Err("please specify an existing datapath".to_owned()) } else { Ok(found) }
}

fn add_datapath(r: &mut Registry<Bridges>) {
    type Show = fn(&datapath::Datapath, &[&str]) -> String;
    const PERF: &str = "[-nh] [-it iter-history-len] [-ms ms-history-len] [-pmd core] [dp]";
    let shows: [(&str, &str, usize, Show); 6] = [
        ("pmd-stats-show", "[-pmd core] [dp]", 3, |d, args| d.pmd_stats_show(option(args, "-pmd"))),
        ("pmd-perf-show", PERF, 8, |d, args| d.pmd_perf_show(option(args, "-pmd"), perf_shown(args))),
        ("pmd-rxq-show", "[-pmd core] [-secs secs] [dp]", 5, |d, args| {
            d.pmd_rxq_show(option(args, "-pmd"), option(args, "-secs"))
        }),
        ("pmd-stats-clear", "[-pmd core] [dp]", 3, |d, args| {
            d.pmd_stats_clear(option(args, "-pmd"));
            String::new()
        }),
        ("pmd-rxq-rebalance", "[dp]", 1, |d, _| d.pmd_rxq_rebalance()),
        ("bond-show", "[dp]", 1, |d, _| d.bond_show()),
    ];
    for (name, usage, max, show) in shows {
        r.add_sync(&format!("dpif-netdev/{name}"), usage, 0, max, move |b: &mut Bridges, args| {
            Ok(named_datapaths(b, args)?.into_iter().map(|d| show(d, args)).collect())
        });
    }
    type Which = fn(&datapath::Datapath) -> String;
    let implementations: [(&str, Which); 3] = [
        ("dpif-netdev/subtable-lookup-info-get", datapath::Datapath::subtable_lookup_show),
        ("dpif-netdev/dpif-impl-get", datapath::Datapath::dpif_impl_show),
        ("dpif-netdev/miniflow-parser-get", datapath::Datapath::miniflow_parser_show),
    ];
    for (name, show) in implementations {
        r.add_sync(name, "", 0, 0, move |b: &mut Bridges, _| {
            Ok(b.layers().domains().map(|(_, d)| show(&d.datapath)).collect())
        });
    }
    r.add_sync("ovs-rs/drops", "", 0, 0, |b, _| {
        Ok(b.layers().domains().map(|(_, d)| dpif_commands::drops(&d.datapath)).collect())
    });
}

fn add_upcall(r: &mut Registry<Bridges>) {
    r.add_sync("upcall/show", "", 0, 0, |b: &mut Bridges, _| Ok(on_fabrics(b, dpif_commands::upcall_show)));
    r.add_sync("upcall/set-flow-limit", "flow-limit-number", 1, 1, |b, args| {
        on_fabrics(b, |all| dpif_commands::set_flow_limit(all, args.first().unwrap_or(&"")))
    });
    let switches = [
        ("upcall/enable-megaflows", Switchable::Megaflows, true),
        ("upcall/disable-megaflows", Switchable::Megaflows, false),
        ("upcall/enable-ufid", Switchable::Ufid, true),
        ("upcall/disable-ufid", Switchable::Ufid, false),
    ];
    for (name, what, on) in switches {
        r.add_sync(name, "", 0, 0, move |b: &mut Bridges, _| {
            Ok(on_fabrics(b, |all| dpif_commands::enable(all, what, on)))
        });
    }
}

fn add_revalidator(r: &mut Registry<Bridges>) {
    r.add("revalidator/wait", "", 0, 0, |b: &mut Bridges, _, reply: Reply| {
        let fabrics: Vec<Arc<Fabric>> = b.layers().domains().map(|(_, d)| d.fabric.clone()).collect();
        // The rounds run in threads of their own; the main task must not wait for them.
        tokio::task::spawn_blocking(move || {
            let rounds: Vec<u64> = fabrics.iter().map(|f| f.ask_round()).collect();
            fabrics.iter().zip(rounds).for_each(|(f, round)| f.wait_round(round));
            reply.ok("");
        });
    });
    r.add("revalidator/purge", "", 0, 0, |b, _, reply: Reply| {
        let fabrics: Vec<Arc<Fabric>> = b.layers().domains().map(|(_, d)| d.fabric.clone()).collect();
        tokio::task::spawn_blocking(move || {
            fabrics.iter().for_each(|f| f.purge());
            reply.ok("");
        });
    });
    for (name, paused) in [("revalidator/pause", true), ("revalidator/resume", false)] {
        r.add_hidden(name, 0, 0, move |b: &mut Bridges, _, reply: Reply| {
            on_fabrics(b, |all| all.iter().for_each(|(_, f)| f.steer(|r| r.paused = paused)));
            reply.ok("");
        });
    }
}

fn add_switch(r: &mut Registry<Bridges>) {
    const TRACE: &str = "{[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet]";
    const PACKET_OUT: &str =
        "[-consistent] {[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet] actions";
    r.add_sync("ofproto/trace", TRACE, 1, UNLIMITED, |b: &mut Bridges, args| {
        on_fabrics(b, |all| trace_cmd::run(all, args))
    });
    r.add_sync("ofproto/trace-packet-out", PACKET_OUT, 2, UNLIMITED, |b, args| {
        on_fabrics(b, |all| trace_cmd::run_packet_out(all, args))
    });
    r.add_sync("bridge/dump-flows", "[--offload-stats] bridge", 1, 2, |b, args| {
        on_fabrics(b, |all| dpif_commands::dump_rules(all, args))
    });
}
