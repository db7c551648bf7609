//! Commands of the control socket over datapaths and their switches: `dpctl/*`, `dpif/*`, `dpif-netdev/*`,
//! `upcall/*`, `revalidator/*`, `ofproto/trace*`, `bridge/*`.

use crate::bridge::Bridges;
use crate::dpctl::{self, Datapaths};
use crate::dpif_commands::{self, Switchable};
use dpif::Dpif;
use ofproto::fabric::Fabric;
use ofproto::trace_cmd::{self, Fabrics};
use std::sync::Arc;
use unixctl::{Registry, Reply, UNLIMITED};

type Answer = Result<String, String>;

/// The commands, over [`Bridges`].
pub fn registry() -> Registry<Bridges> {
    let mut r = Registry::new();
    add_dpctl(&mut r);
    add_dpif(&mut r);
    add_datapath(&mut r);
    add_upcall(&mut r);
    add_revalidator(&mut r);
    add_switch(&mut r);
    r
}

/// Runs `f` over the datapaths.
fn on_datapaths(b: &Bridges, f: impl FnOnce(Datapaths<'_>, u64) -> Answer) -> Answer {
    let all: Vec<Arc<dyn Dpif>> =
        b.layers().domains().map(|(_, d)| d.datapath.clone() as Arc<dyn Dpif>).collect();
    f(&all, b.now_ms())
}

/// Runs `f` over the fabrics, by datapath type.
fn on_fabrics<T>(b: &Bridges, f: impl FnOnce(Fabrics<'_>) -> T) -> T {
    let all: Vec<(&str, &Arc<Fabric>)> = b.layers().domains().map(|(kind, d)| (kind, &d.fabric)).collect();
    f(&all)
}

fn add_dpctl(r: &mut Registry<Bridges>) {
    const DUMP: &str = "[-m] [--names] [dp] [filter=..] [type=..] [pmd=..]";
    const PUT: &str = "[dp] flow actions";
    r.add_sync("dpctl/dump-dps", "", 0, 0, |b: &mut Bridges, _| {
        on_datapaths(b, |dps, _| dpctl::dump_dps(dps))
    });
    r.add_sync("dpctl/show", "[-s] [dp...]", 0, UNLIMITED, |b, args| {
        on_datapaths(b, |dps, _| dpctl::show(dps, args))
    });
    r.add_sync("dpctl/dump-flows", DUMP, 0, 8, |b, args| {
        on_datapaths(b, |dps, now| dpctl::dump_flows(dps, args, now))
    });
    r.add_sync("dpctl/add-flow", PUT, 2, 8, |b, args| {
        on_datapaths(b, |dps, now| dpctl::add_flow(dps, args, false, now))
    });
    r.add_sync("dpctl/mod-flow", PUT, 2, 8, |b, args| {
        on_datapaths(b, |dps, now| dpctl::add_flow(dps, args, true, now))
    });
    r.add_sync("dpctl/add-flows", "[dp] file", 1, 4, |b, args| {
        on_datapaths(b, |dps, now| dpctl::add_flows(dps, args, false, now))
    });
    r.add_sync("dpctl/mod-flows", "[dp] file", 1, 4, |b, args| {
        on_datapaths(b, |dps, now| dpctl::add_flows(dps, args, true, now))
    });
    r.add_sync("dpctl/get-flow", "[dp] ufid", 1, 4, |b, args| {
        on_datapaths(b, |dps, now| dpctl::get_flow(dps, args, now))
    });
    r.add_sync("dpctl/del-flow", "[dp] flow", 1, 4, |b, args| {
        on_datapaths(b, |dps, _| dpctl::del_flow(dps, args))
    });
    r.add_sync("dpctl/del-flows", "[dp]", 0, 1, |b, args| {
        on_datapaths(b, |dps, _| dpctl::del_flows(dps, args))
    });
    r.add_sync("dpctl/parse-actions", "actions", 1, UNLIMITED, |_, args| dpctl::parse_actions(args));
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

/// `[-pmd CORE] [DP]` of the `dpif-netdev/*` commands.
fn core_option(args: &[&str]) -> Option<u32> {
    let at = args.iter().position(|a| *a == "-pmd")?;
    args.get(at + 1)?.parse().ok()
}

fn add_datapath(r: &mut Registry<Bridges>) {
    type Show = fn(&datapath::Datapath, Option<u32>) -> String;
    const OPTIONS: &str = "[-pmd core] [dp]";
    let shows: [(&str, Show); 4] = [
        ("dpif-netdev/pmd-stats-show", |d, core| d.pmd_stats_show(core)),
        ("dpif-netdev/pmd-perf-show", |d, core| d.pmd_perf_show(core)),
        ("dpif-netdev/pmd-rxq-show", |d, core| d.pmd_rxq_show(core, None)),
        ("dpif-netdev/pmd-stats-clear", |d, core| {
            d.pmd_stats_clear(core);
            String::new()
        }),
    ];
    for (name, show) in shows {
        r.add_sync(name, OPTIONS, 0, 3, move |b: &mut Bridges, args| {
            Ok(b.layers().domains().map(|(_, d)| show(&d.datapath, core_option(args))).collect())
        });
    }
    r.add_sync("dpif-netdev/pmd-rxq-rebalance", "[dp]", 0, 1, |b, _| {
        Ok(b.layers().domains().map(|(_, d)| d.datapath.pmd_rxq_rebalance()).collect())
    });
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
        r.add_sync(name, "", 0, 0, move |b: &mut Bridges, _| {
            on_fabrics(b, |all| all.iter().for_each(|(_, f)| f.steer(|r| r.paused = paused)));
            Ok(String::new())
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
    // Tunnels have no rows yet: there are none to list.
    r.add_sync("ofproto/list-tunnels", "", 0, 0, |_, _| Ok(String::new()));
    r.add_sync("bridge/dump-flows", "[--offload-stats] bridge", 1, 2, |b, args| {
        on_fabrics(b, |all| dpif_commands::dump_rules(all, args))
    });
}
