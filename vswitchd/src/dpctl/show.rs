//! `dpctl/show`, `dpctl/dump-dps`.

use super::{Datapaths, INVALID, Output, choose, names};
use dpif::tunnel::TunnelKind;
use dpif::{Dpif, PortDesc, PortStats};
use std::fmt::Write;

/// `dpctl/dump-dps`.
pub fn dump_dps(dps: Datapaths<'_>) -> Result<String, String> {
    let mut out = Output::default();
    dps.iter().for_each(|d| out.line(&d.name()));
    out.finish()
}

/// `dpctl/show [-s] [DP...]`.
pub fn show(dps: Datapaths<'_>, args: &[&str]) -> Result<String, String> {
    let with_stats = args.iter().any(|a| matches!(*a, "-s" | "--statistics"));
    let wanted: Vec<&str> = args.iter().copied().filter(|a| !a.starts_with('-')).collect();
    let mut out = Output::default();
    for dp in dps.iter().filter(|d| wanted.is_empty() || wanted.iter().any(|w| names(w, &d.name()))) {
        one(&mut out, dp.as_ref(), with_stats);
    }
    for missing in wanted.iter().filter(|w| !dps.iter().any(|d| names(w, &d.name()))) {
        out.error(&format!("opening datapath {missing} failed"), Some("No such device"));
    }
    out.finish()
}

/// `dpctl/offload-stats-show [DP]`: nothing is offloaded, which Open vSwitch says in this way.
pub fn offload_stats(dps: Datapaths<'_>, args: &[&str]) -> Result<String, String> {
    if !args.is_empty() {
        choose(dps, args.first().copied())?;
    }
    let mut out = Output::default();
    out.error("retrieving offload statistics", Some(INVALID));
    out.finish()
}

/// `dpctl/cache-get-size [DP]`: datapaths, of whose caches none can be sized.
pub fn cache_sizes(dps: Datapaths<'_>, args: &[&str]) -> Result<String, String> {
    let mut out = Output::default();
    match args.first() {
        Some(name) => out.line(&format!("{}:", choose(dps, Some(name))?.name())),
        None => dps.iter().for_each(|dp| out.line(&format!("{}:", dp.name()))),
    }
    out.finish()
}

/// The options of a port's device, as a listing has them.
pub fn options(port: &PortDesc) -> String {
    let list: Vec<String> = port.options.iter().map(|(k, v)| format!("{k}={v}")).collect();
    if list.is_empty() { String::new() } else { format!(": {}", list.join(", ")) }
}

fn one(out: &mut Output, dp: &dyn Dpif, with_stats: bool) {
    let s = dp.stats();
    out.line(&format!("{}:", dp.name()));
    out.line(&format!("  lookups: hit:{} missed:{} lost:{}", s.hit, s.missed, s.lost));
    out.line(&format!("  flows: {}", s.flows));
    for p in dp.ports() {
        let kind = match TunnelKind::from_name(&p.kind) {
            _ if p.kind == "system" => String::new(),
            // One that all tunnels of a protocol share takes every packet.
            Some(tunnel) => {
                let number =
                    p.name.rsplit('_').next().and_then(|n| n.parse().ok()).filter(|_| tunnel.is_udp());
                let number = number.filter(|n: &u16| *n != tunnel.default_port());
                let number = number.map_or(String::new(), |n| format!("dst_port={n}, "));
                format!(" ({}: {number}packet_type=ptap)", p.kind)
            }
            None => format!(" ({}{})", p.kind, options(&p)),
        };
        out.line(&format!("  port {}: {}{kind}", p.no, p.name));
        if with_stats && let Ok(stats) = dp.port_stats(p.no) {
            port_stats(out, &stats);
        }
    }
}

/// `?` for a counter that the device does not keep.
fn count(n: u64) -> String {
    if n == u64::MAX { "?".into() } else { n.to_string() }
}

fn port_stats(out: &mut Output, s: &PortStats) {
    out.line(&format!(
        "    RX packets:{} errors:{} dropped:{} overruns:{} frame:{}",
        count(s.rx_packets),
        count(s.rx_errors),
        count(s.rx_dropped),
        count(s.rx_over_errors),
        count(s.rx_frame_errors)
    ));
    out.line(&format!(
        "    TX packets:{} errors:{} dropped:{} aborted:{} carrier:{}",
        count(s.tx_packets),
        count(s.tx_errors),
        count(s.tx_dropped),
        count(s.tx_aborted_errors),
        count(s.tx_carrier_errors)
    ));
    out.line(&format!("    collisions:{}", count(s.collisions)));
    out.line(&format!("    RX bytes:{}  TX bytes:{}", bytes(s.rx_bytes), bytes(s.tx_bytes)));
}

/// A number of bytes, with a rounded one behind it from a KiB up.
fn bytes(n: u64) -> String {
    let mut s = count(n);
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    if n != u64::MAX
        && let Some((size, unit)) = UNITS.into_iter().find(|(size, _)| n >= *size)
    {
        // Writing to a string cannot fail.
        let _ = write!(s, " ({:.1} {unit})", n as f64 / size as f64);
    }
    s
}
