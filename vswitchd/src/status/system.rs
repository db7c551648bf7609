//! `Open_vSwitch.statistics`: the machine and the processes of Open vSwitch on it (ovs-vswitchd.conf.db(5)).

use nix::sys::statvfs::statvfs;
use nix::unistd::{SysconfVar, sysconf};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Reads everything. Takes some system calls per file system and process; not for a thread in a hurry.
///
/// `own` is this process's pidfile: it is not opened, since closing it again would give up the lock on it.
pub fn collect(rundir: &Path, own: Option<&Path>, wall_ms: i64) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if let Ok(n) = std::thread::available_parallelism() {
        all.insert("cpu".to_owned(), n.to_string());
    }
    let read = |path: &str| fs::read_to_string(path).ok();
    let entries = [
        ("load_average", read("/proc/loadavg").and_then(|text| load_average(&text))),
        ("memory", read("/proc/meminfo").map(|text| memory(&text))),
        ("file_systems", read("/etc/mtab").map(|text| file_systems(&text)).filter(|text| !text.is_empty())),
    ];
    all.extend(entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    all.extend(processes(rundir, own, wall_ms));
    all
}

/// `1.00,0.50,0.25`
fn load_average(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().take(3).collect();
    (words.len() == 3).then(|| words.join(","))
}

/// Total, used, caches, total swap, used swap; all in kB.
fn memory(text: &str) -> String {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok()).unwrap_or(0)
    };
    let (total, swap) = (value("MemTotal"), value("SwapTotal"));
    let numbers =
        [total, total - value("MemFree"), value("Buffers") + value("Cached"), swap, swap - value("SwapFree")];
    numbers.map(|n| n.to_string()).join(",")
}

/// `MOUNTPOINT,TOTAL,USED` in kB for each local file system that can be written.
fn file_systems(mtab: &str) -> String {
    let local = mtab.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [device, dir, _, options, ..] = fields.as_slice() else { return None };
        (device.starts_with("/dev") && options.contains("rw")).then_some(*dir)
    });
    let entry = |dir: &str| {
        // Blanks in names are written as octal escapes.
        let path = dir.replace("\\040", " ");
        let fs = statvfs(path.as_str()).ok()?;
        let kb = |blocks: u64| fs.fragment_size().saturating_mul(blocks) / 1024;
        let (total, free) = (kb(fs.blocks()), kb(fs.blocks_free()));
        Some(format!("{},{total},{}", path.replace([' ', ','], "_"), total.saturating_sub(free)))
    };
    local.filter_map(entry).collect::<Vec<_>>().join(" ")
}

/// `process_NAME` of each `NAME.pid` in the run directory.
fn processes(rundir: &Path, own: Option<&Path>, wall_ms: i64) -> Vec<(String, String)> {
    let Ok(dir) = fs::read_dir(rundir) else { return Vec::new() };
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let up_s: f64 = uptime.split_whitespace().next().and_then(|s| s.parse().ok()).unwrap_or(0.0);
    let booted_ms = wall_ms - (up_s * 1000.0) as i64;
    let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let own = own.and_then(identity);
    let pid_in = |path: &Path| match own {
        Some(_) if identity(path) == own => Some(std::process::id()),
        _ => fs::read_to_string(path).ok()?.trim().parse().ok(),
    };
    let stats = dir.flatten().filter_map(|entry| {
        let path = entry.path();
        let name = path.file_name()?.to_str()?.strip_suffix(".pid")?.to_owned();
        let pid = pid_in(&path)?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        let value = stat.and_then(|stat| process(&stat, booted_ms, wall_ms)).unwrap_or_default();
        Some((format!("process_{name}"), value))
    });
    stats.collect()
}

/// Virtual and resident size in kB, CPU time, crashes, start and age in milliseconds, CPU; from `/proc/PID/stat`.
fn process(stat: &str, booted_ms: i64, wall_ms: i64) -> Option<String> {
    // The name in parentheses may contain anything.
    let (head, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |no: usize| fields.get(no - 3)?.parse::<i64>().ok();
    let (ppid, utime, stime, start) = (field(4)?, field(14)?, field(15)?, field(22)?);
    let (vsz, pages, cpu) = (field(23)?, field(24)?, field(39)?);
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).max(1);
    let page_kb = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) / 1024;
    let ms = |t: i64| t.saturating_mul(1000) / ticks;
    let started_ms = booted_ms + ms(start);
    let pid: i64 = head.split_once(' ')?.0.parse().ok()?;
    let crashes = fs::read_to_string(format!("/proc/{ppid}/cmdline")).map_or(0, |line| crashes(&line, pid));
    let numbers =
        [vsz / 1024, pages * page_kb, ms(utime + stime), crashes, started_ms, wall_ms - started_ms, cpu];
    Some(numbers.map(|n| n.to_string()).join(","))
}

/// How often the monitor whose title this is had to start its child anew: `...: monitoring pid N (C crashes: ...`.
fn crashes(title: &str, pid: i64) -> i64 {
    let monitored = title.split_once(&format!("monitoring pid {pid} (")).map(|(_, rest)| rest);
    monitored.and_then(|rest| rest.split_once(' ')?.0.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_understood() {
        assert_eq!(load_average("0.10 0.20 0.30 1/200 5\n").as_deref(), Some("0.10,0.20,0.30"));
        assert_eq!(load_average("x"), None);
        let meminfo = "MemTotal:  100 kB\nMemFree: 40 kB\nBuffers: 5 kB\nCached: 6 kB\nSwapCached: 9 kB\n\
                       SwapTotal: 10 kB\nSwapFree: 3 kB\n";
        assert_eq!(memory(meminfo), "100,60,11,10,7");
        let root = file_systems(
            "/dev/x / ext4 rw,relatime 0 0\nproc /proc proc rw 0 0\n/dev/y /cd iso9660 ro 0 0\n",
        );
        assert!(root.starts_with("/,") && root.split(',').count() == 3, "{root}");
        assert_eq!(crashes("ovs-vswitchd: monitoring pid 7 (2 crashes: pid 5 died)", 7), 2);
        assert_eq!(crashes("/sbin/init", 7), 0);
    }

    #[test]
    fn this_process_is_found_by_its_pidfile() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("me.pid"), format!("{}\n", std::process::id())).unwrap();
        fs::write(dir.path().join("gone.pid"), "4194999\n").unwrap();
        fs::write(dir.path().join("bad.pid"), "x").unwrap();
        let wall_ms = clock::Clock::new().wall_ms();
        // One's own pidfile is known without a look into it.
        let own = dir.path().join("own.pid");
        fs::write(&own, "not a number").unwrap();
        let all = collect(dir.path(), Some(&own), wall_ms);
        assert_eq!(all["process_own"].split(',').count(), 7);
        let me: Vec<i64> = all["process_me"].split(',').map(|n| n.parse().unwrap()).collect();
        assert_eq!(me.len(), 7);
        assert!(me[0] > me[1] && me[1] > 0 && (0..3_600_000).contains(&me[5]), "{me:?}");
        assert_eq!(all["process_gone"], "");
        assert!(all.contains_key("cpu") && all.contains_key("memory") && !all.contains_key("process_bad"));
    }
}
