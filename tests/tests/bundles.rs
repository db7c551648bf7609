//! Packets see a bundle wholly or not at all: a sender runs while bundles turn a pipeline over.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use tests::Sandbox;

const BUNDLES: usize = 20;

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
    format!(
        "group mod group_id=1,type=indirect,bucket=load:{mark}->NXM_NX_REG0[],resubmit(,1)\n\
         flow add table=1,reg0={mark},actions=group:{}\n\
         flow add table=1,reg0={other},actions=output:4\n\
         group mod group_id=2,type=all,bucket=output:{port}\n\
         group mod group_id=3,type=all,bucket=output:{port}\n\
         flow delete table=2\n\
         flow add table=2,actions=output:4\n",
        mark + 1
    )
}

#[test]
fn packets_never_see_half_a_bundle() {
    let sandbox = Sandbox::new();
    let ports: Vec<String> = (1..=4)
        .flat_map(|n| {
            let set = format!("ofport_request={n}");
            ["--", "add-port", "br0", &format!("p{n}"), "--", "set", "interface", &format!("p{n}"), &set]
                .map(str::to_owned)
        })
        .collect();
    let args = ["add-br", "br0", "--", "set", "bridge", "br0", "fail_mode=secure"];
    let args: Vec<&str> = args.into_iter().chain(ports.iter().map(String::as_str)).collect();
    sandbox.vsctl(&args);
    for group in [1, 2, 3] {
        sandbox.ofctl(&["-O", "OpenFlow14", "add-group", "br0", &format!("group_id={group},type=all")]);
    }
    for (name, odd) in [("even", false), ("odd", true)] {
        std::fs::write(sandbox.path(name), pipeline(odd)).unwrap();
    }
    let even = sandbox.path("even");
    let odd = sandbox.path("odd");
    let commit = |file: &std::path::Path| {
        sandbox.ofctl(&["-O", "OpenFlow14", "bundle", "br0", file.to_str().unwrap()]);
    };
    commit(&even);
    sandbox.ofctl(&["-O", "OpenFlow14", "add-flow", "br0", "in_port=1,actions=group:1"]);
    let done = AtomicBool::new(false);
    let packets = AtomicU32::new(0);
    std::thread::scope(|s| {
        // Each packet is of a flow of its own, which is translated anew.
        s.spawn(|| {
            while !done.load(SeqCst) {
                let n = packets.fetch_add(1, SeqCst);
                let flow = format!(
                    "in_port(1),eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x0800),\
                     ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src={},dst={})",
                    n % 60_000 + 1,
                    n / 60_000 + 1
                );
                sandbox.appctl(&["netdev-dummy/receive", "p1", &flow]);
            }
        });
        for i in 0..BUNDLES {
            commit(if i % 2 == 0 { &odd } else { &even });
        }
        done.store(true, SeqCst);
    });
    let packets = u64::from(packets.load(SeqCst));
    sandbox.appctl(&["revalidator/purge"]);
    let (two, three, four) = (sent(&sandbox, "2"), sent(&sandbox, "3"), sent(&sandbox, "4"));
    assert_eq!(four, 0, "packets that saw parts of two bundles");
    assert_eq!(two + three, packets, "no packet is lost between two bundles");
    assert!(two > 0 && three > 0, "both pipelines were seen: {two} and {three} of {packets}");
}
