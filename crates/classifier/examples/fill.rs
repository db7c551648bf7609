//! Fills a table with 200,000 rules, looks packets up and empties it again; prints time and memory per rule.

use classifier::Classifier;
use flow::{Flow, Mask};
use std::sync::Arc;
use std::time::{Duration, Instant};

const RULES: u32 = 200_000;

fn key(n: u32) -> Flow {
    Flow { dl_type: 0x0800, nw_dst: n.wrapping_mul(0x9e37_79b1), tp_dst: n as u16, nw_proto: 6, ..Flow::ZERO }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn report(what: &str, time: Duration) {
    println!("{what:<28} {:7.0} ns each", time.as_nanos() as f64 / f64::from(RULES));
}

fn main() {
    let mut mask = Mask::NONE;
    (mask.dl_type, mask.nw_dst, mask.nw_proto, mask.tp_dst) = (0xffff, u32::MAX, 0xff, 0xffff);
    let rules: Vec<Arc<u32>> = (0..RULES).map(Arc::new).collect();
    let mut table = Classifier::new();
    let before = resident_kib();
    let start = Instant::now();
    for (n, rule) in rules.iter().enumerate() {
        table.insert(&key(n as u32), &mask, (n % 1000) as i32, Arc::clone(rule), &[]);
    }
    report("insert", start.elapsed());
    println!("memory {:>29} bytes each", (resident_kib() - before) * 1024 / u64::from(RULES));
    let start = Instant::now();
    let hits = (0..RULES).filter(|n| table.lookup(&key(*n), Some(&mut Mask::NONE.clone())).is_some()).count();
    report("lookup with wildcards", start.elapsed());
    assert_eq!(hits, RULES as usize);
    let start = Instant::now();
    let found = (0..RULES).filter(|n| table.find_exact(&key(*n), &mask, (n % 1000) as i32).is_some()).count();
    report("find", start.elapsed());
    assert_eq!(found, RULES as usize);
    let start = Instant::now();
    (0..RULES).for_each(|n| drop(table.remove(&key(n), &mask, (n % 1000) as i32)));
    report("remove", start.elapsed());
    assert!(table.is_empty());
}
