//! Multicast as Debian's OVN does it on our daemons: its own snooping, its querier, and its router's relay.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::collections::BTreeSet;
use tests::ovn::Ovn;
use tests::probes::Lines;

/// Sends to a group until these sinks have heard it; then once more, with no sink but these hearing that.
fn reaches_only(ovn: &Ovn, from: &str, group: &str, port: u16, members: &[&Lines], others: &[&Lines]) {
    let end = std::time::Instant::now() + tests::PATIENCE;
    let heard = |sinks: &[&Lines]| sinks.iter().map(|s| s.seen().len()).collect::<Vec<_>>();
    loop {
        let before = heard(members);
        ovn.send(from, group, port, 1, 10, 0.0);
        std::thread::sleep(std::time::Duration::from_millis(300));
        if before.iter().zip(heard(members)).all(|(before, after)| after > *before) {
            break;
        }
        assert!(std::time::Instant::now() < end, "{group} from {from}: {before:?}\n{}", ovn.logs());
    }
    let (before, not) = (heard(members), heard(others));
    ovn.send(from, group, port, 20, 10, 0.2);
    let all = || before.iter().zip(heard(members)).all(|(before, after)| after >= before + 20);
    ovn.until("all members hear all", all);
    // Each once: copies by two ways would be more.
    let exact: Vec<usize> = before.iter().map(|n| n + 20).collect();
    assert_eq!(heard(members), exact, "{group} from {from}");
    assert_eq!(heard(others), not, "{group} from {from}: only members");
}

/// The groups of the southbound database and the switches' names.
fn groups(ovn: &Ovn) -> BTreeSet<String> {
    ovn.sbctl("--bare --columns=address list IGMP_Group").split_whitespace().map(str::to_owned).collect()
}

#[test]
fn snooping_and_relay_on_two_hypervisors() {
    let Some(mut ovn) = Ovn::new(2, "geneve") else { return };
    ovn.two_switches(&[1, 2, 2, 1]);
    ovn.nbctl("lsp-add ls0 vm5");
    ovn.nbctl_words(&["lsp-set-addresses", "vm5", "50:54:00:00:00:05 10.0.1.15 fd01::15"]);
    ovn.machine(2, "vm5", "50:54:00:00:00:05");
    ovn.ip("vm5", "addr add 10.0.1.15/24 dev eth0");
    ovn.ip("vm5", "addr add fd01::15/64 dev eth0 nodad");
    for net in [1, 2] {
        ovn.nbctl(&format!(
            "set Logical_Switch ls{0} other_config:mcast_snoop=true other_config:mcast_querier=true \
             other_config:mcast_query_interval=1 other_config:mcast_eth_src=00:00:00:00:ff:0{net} \
             other_config:mcast_ip4_src=10.0.{net}.1 other_config:mcast_ip6_src=fe80::{net}",
            net - 1
        ));
    }
    ovn.sync();
    // The querier asks: machines that have joined before answer, too.
    let queries = ovn.watch("vm1", "igmp");
    ovn.until("queries", || queries.count("igmp query") >= 2);
    let vm2 = ovn.sink("vm2", 5000, "239.0.1.68");
    let vm5 = ovn.sink("vm5", 5000, "");
    ovn.until("the group is known", || groups(&ovn).contains("239.0.1.68"));
    ovn.sync();
    // Those who are no member see nothing of it on their device, whatever they listen to.
    let idle = ovn.watch("vm5", "udp port 5000");
    reaches_only(&ovn, "vm1", "239.0.1.68", 5000, &[&vm2], &[&vm5]);
    assert_eq!(idle.seen().len(), 0, "{:?}", idle.seen());
    let vm5 = ovn.sink("vm5", 5001, "ff0e::68");
    let vm2_v6 = ovn.watch("vm2", "udp port 5001");
    ovn.until("the group of IPv6 is known", || groups(&ovn).contains("ff0e::68"));
    ovn.sync();
    ovn.ip("vm1", "-6 route replace ff0e::/16 dev eth0 table local");
    reaches_only(&ovn, "vm1", "ff0e::68", 5001, &[&vm5], &[&vm2_v6]);
    // The router takes a group of one switch to members on the other.
    ovn.nbctl("set Logical_Router lr0 options:mcast_relay=true");
    let vm3 = ovn.sink("vm3", 5000, "239.0.1.68");
    let vm4 = ovn.watch("vm4", "udp port 5000");
    ovn.sync();
    reaches_only(&ovn, "vm1", "239.0.1.68", 5000, &[&vm2, &vm3], &[&vm4]);
}
