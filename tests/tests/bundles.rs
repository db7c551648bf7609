//! Packets see a bundle wholly or not at all: a host sends while bundles turn a pipeline over. Needs root; is skipped with
//! the reason otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::path::Path;
use std::process::Stdio;
use tests::Sandbox;
use tests::net::Lan;

const BUNDLES: u32 = 30;
/// More frames than are sent meanwhile, each of its own flow, and how many of them a second.
const FRAMES: u32 = 10_000_000;
const PER_SECOND: u32 = 20_000;
/// Flow-mods in the middle of a bundle that make it take a while.
const FILLERS: u32 = 200;

/// What port `no` has sent.
fn sent(sandbox: &Sandbox, no: &str) -> u64 {
    let text = sandbox.ofctl(&["dump-ports", "br0", no]);
    let tx = text.lines().find(|l| l.contains("tx pkts=")).unwrap_or_else(|| panic!("{text}"));
    let number = tx.split_once("pkts=").unwrap().1;
    number.split(',').next().unwrap().parse().unwrap()
}

/// A pipeline that sends to port 2 or to port 3. Whoever sees parts of both sends to port 4, or loses the packet.
fn pipeline(odd: bool) -> String {
    let (mark, other, port) = if odd { (2, 1, 3) } else { (1, 2, 2) };
    let fillers = (0..FILLERS)
        .map(|i| format!("flow add table=3,reg1={i},actions=output:{port}\n"))
        .collect::<String>();
    // Between the first two messages, the mark is one that table 1 sends to port 4.
    format!(
        "group mod group_id=1,type=indirect,bucket=load:{mark}->NXM_NX_REG0[],resubmit(,1)\n\
         {fillers}\
         flow add table=1,reg0={mark},actions=group:{}\n\
         flow add table=1,reg0={other},actions=output:4\n\
         group mod group_id=2,type=all,bucket=output:{port}\n\
         group mod group_id=3,type=all,bucket=output:{port}\n\
         flow delete table=2\n\
         flow add table=2,actions=output:4\n",
        mark + 1
    )
}

fn commit(sandbox: &Sandbox, file: &Path) {
    sandbox.ofctl(&["-O", "OpenFlow14", "bundle", "br0", file.to_str().unwrap()]);
}

/// The daemon translates on several threads: each frame is of a flow of its own, which is new to the datapath. (This test fails
/// within seconds if the writer's lock is let go between two messages of a bundle.)
#[test]
fn packets_never_see_half_a_bundle() {
    let Some(lan) = Lan::with_hosts(4) else { return };
    let sandbox = &lan.sandbox;
    for no in 1..=4 {
        lan.run(&format!("h{no}"), "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1");
    }
    sandbox.vsctl(&["set-fail-mode", "br0", "secure"]);
    for group in [1, 2, 3] {
        sandbox.ofctl(&["-O", "OpenFlow14", "add-group", "br0", &format!("group_id={group},type=all")]);
    }
    let [even, odd] = [("even", false), ("odd", true)].map(|(name, odd)| {
        std::fs::write(sandbox.path(name), pipeline(odd)).unwrap();
        sandbox.path(name)
    });
    commit(sandbox, &even);
    // What is moved is looked at: no two frames share a megaflow.
    let rule = "in_port=1,actions=move:NXM_OF_ETH_SRC[]->NXM_NX_XXREG1[0..47],group:1";
    sandbox.ofctl(&["-O", "OpenFlow14", "add-flow", "br0", rule]);
    let send = Path::new(env!("CARGO_MANIFEST_DIR")).join("controllers/send.py");
    let line = format!("/usr/bin/python3 {} {FRAMES} {PER_SECOND}", send.display());
    let mut sender = lan.command("h1", &line).stdout(Stdio::null()).spawn().unwrap();
    sandbox.until("frames arrive", || sent(sandbox, "2") > 1_000);
    for i in 0..BUNDLES {
        commit(sandbox, if i % 2 == 0 { &odd } else { &even });
    }
    assert!(sender.try_wait().unwrap().is_none(), "the sender is there until the end");
    sender.kill().unwrap();
    sender.wait().unwrap();
    sandbox.appctl(&["revalidator/purge"]);
    let [two, three, four] = ["2", "3", "4"].map(|no| sent(sandbox, no));
    assert_eq!(four, 0, "packets that saw parts of two bundles, of {two} and {three}");
    assert!(two > 1_000 && three > 1_000, "both pipelines were seen: {two} and {three}");
}
