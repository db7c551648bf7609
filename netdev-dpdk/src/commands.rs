//! `netdev-dpdk/*` and `dpdk/*`.

use crate::context::Dpdk;
use crate::ffi::eal::{self, Dump};
use crate::ffi::port;
use netdev::Netdev;
use std::sync::Arc;

type Answer = Result<String, String>;
type Command = fn(&Arc<Dpdk>, &[&str]) -> Answer;

/// Name, usage, least and most arguments. They exist once DPDK is up.
pub const COMMANDS: [(&str, &str, usize, usize, Command); 7] = [
    ("dpdk/get-malloc-stats", "", 0, 0, |_, _| dump(Dump::Malloc)),
    ("dpdk/lcore-list", "", 0, 0, |_, _| dump(Dump::Lcores)),
    ("dpdk/log-list", "", 0, 0, |_, _| dump(Dump::LogLevels)),
    ("dpdk/log-set", "{level | pattern:level}", 0, usize::MAX, |_, args| log_set(args)),
    ("netdev-dpdk/detach", "pci address of device", 1, 1, detach),
    ("netdev-dpdk/get-mempool-info", "[netdev]", 0, 1, mempool_info),
    ("netdev-dpdk/set-admin-state", "[netdev] up|down", 1, 2, set_admin_state),
];

/// From RTE_LOG_EMERG (1) on.
const LEVELS: [&str; 8] = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];
const NOT_OURS: &str = "Not a DPDK Interface";

fn dump(what: Dump<'_>) -> Answer {
    eal::dump(what).ok_or_else(|| "Unable to open memstream: Cannot allocate memory.".to_owned())
}

fn log_set(args: &[&str]) -> Answer {
    let all: &[&str] = if args.is_empty() { &["debug"] } else { args };
    for arg in all {
        let (pattern, level) = arg.split_once(':').unwrap_or(("*", arg));
        let at = LEVELS.iter().position(|l| *l == level);
        let at = at.ok_or_else(|| format!("invalid log level: '{level}'"))?;
        if !eal::set_log_level(pattern, at as u32 + 1) {
            return Err(format!("cannot set log level for '{arg}'"));
        }
    }
    Ok(String::new())
}

fn detach(dpdk: &Arc<Dpdk>, args: &[&str]) -> Answer {
    let devargs = args.first().copied().unwrap_or_default();
    let _bus = dpdk.bus.lock();
    let port = port::find(devargs).ok_or_else(|| format!("Device '{devargs}' not found in DPDK"))?;
    let users: Vec<String> = port
        .siblings()
        .into_iter()
        .filter_map(|p| dpdk.user_of(p).map(|d| format!(" {}", d.name())))
        .collect();
    if !users.is_empty() {
        return Err(format!(
            "Device '{devargs}' is being used by the following interfaces:{}. Remove them before detaching.",
            users.concat()
        ));
    }
    match port.close(true) {
        Ok(()) => Ok(format!("All devices shared with device '{devargs}' have been detached")),
        Err(_) => Err(format!("Device '{devargs}' can not be detached")),
    }
}

fn mempool_info(dpdk: &Arc<Dpdk>, args: &[&str]) -> Answer {
    let Some(name) = args.first() else { return dump(Dump::Mempools) };
    let device = dpdk.open_devices().into_iter().find(|d| d.name() == *name);
    let running = device.and_then(|d| d.running()).ok_or_else(|| NOT_OURS.to_owned())?;
    let (available, in_use) = running.mempool().counts();
    let text = dump(Dump::Mempool(running.mempool()))?;
    Ok(format!("{text}    count: avail ({available}), in use ({in_use})\n"))
}

fn set_admin_state(dpdk: &Arc<Dpdk>, args: &[&str]) -> Answer {
    let up = match args.last().map(|a| a.to_ascii_lowercase()).as_deref() {
        Some("up") => true,
        Some("down") => false,
        _ => return Err("Invalid Admin State".to_owned()),
    };
    let devices = dpdk.open_devices();
    match args {
        [name, _] => {
            let device = devices.iter().find(|d| d.name() == *name).ok_or_else(|| NOT_OURS.to_owned())?;
            let _ = device.set_admin_up(up);
        }
        _ => devices.iter().for_each(|d| {
            let _ = d.set_admin_up(up);
        }),
    }
    Ok("OK".to_owned())
}
