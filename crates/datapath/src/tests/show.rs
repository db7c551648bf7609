//! Texts that scripts parse.

use super::fake::*;
use crate::{Core, PollConfig};
use dpif::*;

#[test]
fn the_main_thread_shows_what_was_injected() {
    let (a, b) = (Wire::new("a", false, 1, true), Wire::new("b", false, 1, true));
    let dp = datapath(&[&a, &b], &Switch::to_port(2));
    let inject = |n| (0..n).for_each(|_| dp.inject(PortNo(1), packet::Packet::from_slice(&udp(1, 60))));
    inject(4);
    let text = "\
main thread:
  packets received: 4
  packet recirculations: 0
  avg. datapath passes per packet: 1.00
  phwol hits: 0
  mfex opt hits: 0
  simple match hits: 0
  emc hits: 2
  smc hits: 0
  megaflow hits: 1
  avg. subtable lookups per megaflow hit: 1.00
  miss with success upcall: 1
  miss with failed upcall: 0
  avg. packets per output batch: 1.00
";
    assert_eq!(dp.pmd_stats_show(None), text);
    assert_eq!(dp.pmd_stats_show(Some(0)), "");
    dp.pmd_stats_clear(None);
    inject(1);
    assert!(dp.pmd_stats_show(None).contains("packets received: 1\n"));
    assert_eq!(dp.pmd_rxq_show(None, None), "Displaying last 60 seconds pmd usage %\n");
}

#[test]
fn polling_threads_show_their_queues() {
    let (a, b) = (Wire::new("a", true, 2, true), Wire::new("b", true, 1, true));
    let dp = datapath(&[&a, &b], &Switch::to_port(2));
    let machine = [(1, 0), (4, 0)].map(|(id, numa)| Core { id, numa }).to_vec();
    dp.configure_polling(PollConfig {
        machine,
        pmd_cores: Some(vec![1, 4]),
        assign: crate::Policy::RoundRobin,
        ..dp.polling_config()
    });
    dp.set_affinity(PortNo(2), [(0, 4)].into()).unwrap();
    let text = "\
Displaying last 10 seconds pmd usage %
pmd thread numa_id 0 core_id 1:
  isolated : false
  port: a                 queue-id:  0 (enabled)   pmd usage: NOT AVAIL
  port: a                 queue-id:  1 (enabled)   pmd usage: NOT AVAIL
  overhead: NOT AVAIL
pmd thread numa_id 0 core_id 4:
  isolated : true
  port: b                 queue-id:  0 (enabled)   pmd usage: NOT AVAIL
  overhead: NOT AVAIL
";
    assert_eq!(dp.pmd_rxq_show(None, Some(6)), text);
    a.arrive(0, &udp(1, 60));
    eventually("the packet", || b.count() == 1);
    let stats = dp.pmd_stats_show(Some(1));
    assert!(stats.starts_with("pmd thread numa_id 0 core_id 1:\n  packets received: 1\n"), "{stats}");
    assert!(stats.contains("  avg processing cycles per packet: "));
    assert_eq!(dp.dpif_impl_show(), "Available DPIF implementations:\n  dpif_scalar (pmds: 1,4)\n");
    assert!(dp.subtable_lookup_show().contains("generic (Use count: 1, Priority: 1)"));
}
