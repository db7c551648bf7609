//! The rigs behind the figures in the README; each is a binary of its own.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

pub mod dpdk;
pub mod rules;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Debian's daemon.
pub const STOCK: &str = "/usr/lib/openvswitch-switch/ovs-vswitchd";

/// `OVS_RS_VSWITCHD`, or what was built beside the running bench.
pub fn our_daemon() -> PathBuf {
    let beside = || std::env::current_exe().unwrap().with_file_name("ovs-vswitchd");
    std::env::var_os("OVS_RS_VSWITCHD").map_or_else(beside, PathBuf::from)
}

/// Seconds of processor time that a process has used, in user and kernel mode (proc(5), `stat`).
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in parentheses, may contain anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    (ticks(11) + ticks(12)) as f64 / 100.0
}

/// Seconds of processor time of the thread of a process whose name starts so; 0 if there is none.
pub fn thread_seconds(pid: u32, name: &str) -> f64 {
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").starts_with(name) {
            let stat = read("stat");
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
            return (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0;
        }
    }
    0.0
}

/// As [`thread_seconds`] of all threads of a process whose names start so, to the nanosecond (`schedstat`); what threads
/// used that are gone is not in it.
pub fn exact_seconds(pid: u32, name: &str) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let ns = tasks.filter_map(|task| {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).ok();
        read("comm").filter(|comm| comm.starts_with(name))?;
        read("schedstat")?.split(' ').next()?.parse::<f64>().ok()
    });
    ns.sum::<f64>() / 1e9
}

/// Cycles of the time stamp counter per second.
pub fn tsc_hz() -> f64 {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("cpu MHz")).unwrap();
    line.trim_start_matches([' ', '\t', ':']).parse::<f64>().unwrap() * 1e6
}

/// Writes frames as a capture file.
pub fn write_pcap(path: &Path, frames: impl Iterator<Item = Vec<u8>>) {
    let mut out = std::io::BufWriter::new(fs::File::create(path).unwrap());
    let words = |w: &[u32]| w.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    out.write_all(&words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1])).unwrap();
    for frame in frames {
        out.write_all(&words(&[0, 0, frame.len() as u32, frame.len() as u32])).unwrap();
        out.write_all(&frame).unwrap();
    }
}

/// Resident memory in bytes (proc(5), `status`).
pub fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}

/// The middle one of some figures.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        let before = cpu_seconds(std::process::id());
        while cpu_seconds(std::process::id()) <= before {}
        assert!(resident(std::process::id()) > 100_000.0);
        assert!(exact_seconds(std::process::id(), "") > 0.0);
    }
}
