//! Daemons with `dpdk` ports. Need root and 300 MiB of free hugepages.

use crate::Sandbox;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

/// Polling threads take a core each; one test at a time has them.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits for other tests; `None`, with the reason, on a machine that cannot run these.
pub fn ready() -> Option<MutexGuard<'static, ()>> {
    let alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    if !fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0) {
        println!("skipped: DPDK needs root");
        return None;
    }
    if !has_hugepages() {
        println!("skipped: fewer than 150 free hugepages of 2 MiB");
        return None;
    }
    Some(alone)
}

fn has_hugepages() -> bool {
    let free = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    free.ok().and_then(|n| n.trim().parse::<u32>().ok()).is_some_and(|n| n >= 150)
}

/// Starts DPDK with `extra` arguments, and makes a bridge.
pub fn configured(sandbox: Sandbox, extra: &str) -> Sandbox {
    let extra = format!("other_config:dpdk-extra=\"-m 200 {extra}\"");
    let init = ["other_config:pmd-cpu-mask=1", "other_config:dpdk-init=true", &extra];
    sandbox.vsctl(&[&["set", "Open_vSwitch", "."], &init[..]].concat());
    let bridge = ["datapath_type=netdev", "fail_mode=secure"];
    sandbox.vsctl(&[&["add-br", "br0", "--", "set", "Bridge", "br0"], &bridge[..]].concat());
    sandbox
}

/// Adds a port; returns `Interface.error`.
pub fn add(sandbox: &Sandbox, name: &str, devargs: &str, more: &[&str]) -> String {
    let devargs = format!("options:dpdk-devargs=\"{devargs}\"");
    let args = ["add-port", "br0", name, "--", "set", "Interface", name, "type=dpdk", &devargs];
    let _ = sandbox.command("ovs-vsctl").args(args).args(more).output();
    sandbox.get("Interface", name, "error").trim().to_owned()
}

/// Runs `ip`; whether it succeeds.
pub fn ip(args: &str) -> bool {
    Command::new("ip").args(args.split(' ')).status().is_ok_and(|s| s.success())
}

/// Gives a bridge's own port an address.
pub fn address(namespace: &str, device: &str, address: &str) {
    assert!(ip(&format!("-n {namespace} addr add {address}/24 dev {device}")));
    assert!(ip(&format!("-n {namespace} link set {device} up")));
}
