//! Commands of the control socket over tunnels and the network under them: `ovs/route/*`, `tnl/*`,
//! `ofproto/list-tunnels`.

use crate::bridge::Bridges;
use dpif::tunnel::{mapped, show_ip};
use flow::EthAddr;
use ofproto::port::Attachment;
use ofproto::tunnel::{AGING_MAX_S, RouteEntry, RouteSource, describe};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use unixctl::Registry;

type Answer = Result<String, String>;
type Run = fn(&mut Bridges, &[&str]) -> Answer;

const ADDRESS_WIDTH: usize = 46;

/// Name, usage, least and most arguments.
const COMMANDS: [(&str, &str, usize, usize, Run); 15] = [
    ("ovs/route/add", "ip_addr/prefix_len out_br_name [gw] [pkt_mark=mark]", 2, 4, add_route),
    ("ovs/route/show", "", 0, 0, |b, _| Ok(show_routes(b))),
    ("ovs/route/del", "ip_addr/prefix_len [pkt_mark=mark]", 1, 2, del_route),
    ("ovs/route/lookup", "ip_addr [pkt_mark=mark]", 1, 2, lookup_route),
    ("tnl/arp/show", "", 0, 0, |b, _| Ok(show_neighbours(b))),
    ("tnl/arp/set", "BRIDGE IP MAC", 3, 3, set_neighbour),
    ("tnl/arp/flush", "", 0, 0, flush_neighbours),
    ("tnl/arp/aging", "[SECS]", 0, 1, aging),
    ("tnl/neigh/show", "", 0, 0, |b, _| Ok(show_neighbours(b))),
    ("tnl/neigh/set", "BRIDGE IP MAC", 3, 3, set_neighbour),
    ("tnl/neigh/flush", "", 0, 0, flush_neighbours),
    ("tnl/neigh/aging", "[SECS]", 0, 1, aging),
    ("tnl/ports/show", "-v", 0, 1, show_ports),
    ("tnl/egress_port_range", "min max", 0, 2, egress_port_range),
    ("ofproto/list-tunnels", "", 0, 0, |b, _| Ok(list_tunnels(b))),
];

/// The commands, over [`Bridges`].
pub fn registry() -> Registry<Bridges> {
    let mut r = Registry::new();
    for (name, usage, min, max, run) in COMMANDS {
        r.add_sync(name, usage, min, max, move |b: &mut Bridges, args| run(b, args));
    }
    r
}

/// An address with its prefix length, out of 128, from `ADDRESS[/LENGTH|/MASK]`.
fn cidr(text: &str) -> Option<(Ipv6Addr, u8)> {
    let (address, rest) = match text.split_once('/') {
        Some((address, rest)) => (address, Some(rest)),
        None => (text, None),
    };
    if let Ok(v4) = address.parse::<Ipv4Addr>() {
        let len = match rest {
            None => 32,
            Some(rest) => match rest.parse::<Ipv4Addr>() {
                Ok(mask) => prefix_len(u128::from(u32::from(mask)) << 96)?,
                Err(_) => rest.parse().ok().filter(|n| (1..=32).contains(n))?,
            },
        };
        return Some((v4.to_ipv6_mapped(), 96 + len));
    }
    let v6 = address.parse::<Ipv6Addr>().ok()?;
    let len = match rest {
        None => 128,
        Some(rest) => match rest.parse::<Ipv6Addr>() {
            Ok(mask) => prefix_len(mask.into())?,
            Err(_) => rest.parse().ok().filter(|n| (1..=128).contains(n))?,
        },
    };
    Some((v6, len))
}

/// The number of ones at a mask's beginning, if there are no others.
fn prefix_len(mask: u128) -> Option<u8> {
    let ones = mask.leading_ones();
    (mask.checked_shl(ones).unwrap_or(0) == 0).then_some(ones as u8)
}

/// The mark from `pkt_mark=NUMBER`.
fn pkt_mark(text: &str) -> Option<u32> {
    let number = text.strip_prefix("pkt_mark=")?;
    match number.strip_prefix("0x").or_else(|| number.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => number.parse::<i64>().ok().map(|n| n as u32),
    }
}

fn add_route(b: &mut Bridges, args: &[&str]) -> Answer {
    let [network, device, rest @ ..] = args else { return Err("Invalid parameters".into()) };
    let (dst, prefix_len) = cidr(network).ok_or("Invalid parameters")?;
    let is_v4 = dst.to_ipv4_mapped().is_some();
    let (mut gateway, mut mark) = (Ipv6Addr::UNSPECIFIED, 0);
    if let Some(third) = rest.first() {
        let parsed = match is_v4 {
            true => third.parse::<Ipv4Addr>().ok().map(|v4| v4.to_ipv6_mapped()),
            false => third.parse::<Ipv6Addr>().ok(),
        };
        match (pkt_mark(third), parsed) {
            (Some(m), _) => mark = m,
            (None, Some(ip)) => gateway = ip,
            (None, None) if is_v4 => return Err("Invalid pkt_mark or gateway".into()),
            (None, None) => return Err("Invalid pkt_mark or IPv6 gateway".into()),
        }
    }
    if let Some(fourth) = rest.get(1) {
        mark = pkt_mark(fourth).ok_or("Invalid pkt_mark")?;
    }
    if gateway == mapped(0) {
        gateway = Ipv6Addr::UNSPECIFIED;
    }
    // Addresses that a device was given a moment ago count.
    b.layers_mut().refresh_underlay();
    let route = RouteEntry {
        dst,
        prefix_len,
        mark,
        device: (*device).to_owned(),
        gateway,
        src: Ipv6Addr::UNSPECIFIED,
        source: RouteSource::User,
    };
    if !b.layers().underlay().add_route(route) {
        return Err("Error while inserting route.".into());
    }
    b.layers_mut().underlay_changed();
    Ok("OK".into())
}

fn del_route(b: &mut Bridges, args: &[&str]) -> Answer {
    let (dst, prefix_len) = args.first().and_then(|a| cidr(a)).ok_or("Invalid parameters")?;
    let mark = args.get(1).map_or(Some(0), |a| pkt_mark(a)).ok_or("Invalid pkt_mark")?;
    if !b.layers().underlay().remove_route(dst, prefix_len, mark) {
        return Err("Not found".into());
    }
    b.layers_mut().underlay_changed();
    Ok("OK".into())
}

fn show_routes(b: &mut Bridges) -> String {
    b.layers_mut().refresh_underlay();
    let mut out = "Route Table:\n".to_owned();
    for r in b.layers().underlay().routes() {
        let is_local = matches!(r.source, RouteSource::System { is_local: true });
        out += if r.source == RouteSource::User { "User: " } else { "Cached: " };
        let len =
            if r.dst.to_ipv4_mapped().is_some() { r.prefix_len.saturating_sub(96) } else { r.prefix_len };
        // Writing to a string cannot fail.
        let _ = write!(out, "{}/{len}", show_ip(r.dst));
        if r.mark != 0 {
            let _ = write!(out, " MARK {}", r.mark);
        }
        let _ = write!(out, " dev {}", r.device);
        if !r.gateway.is_unspecified() {
            let _ = write!(out, " GW {}", show_ip(r.gateway));
        }
        let _ = write!(out, " SRC {}", show_ip(r.src));
        out += if is_local { " local\n" } else { "\n" };
    }
    out
}

fn lookup_route(b: &mut Bridges, args: &[&str]) -> Answer {
    let whole = args.first().and_then(|a| cidr(a)).filter(|(_, len)| *len == 128);
    let (dst, _) = whole.ok_or("Invalid parameters")?;
    let mark = args.get(1).map_or(Some(0), |a| pkt_mark(a)).ok_or("Invalid pkt_mark")?;
    b.layers_mut().refresh_underlay();
    let r = b.layers().underlay().route(mark, dst, None).ok_or("Not found")?;
    Ok(format!("src {}\ngateway {}\ndev {}\n", show_ip(r.src), show_ip(r.gateway), r.device))
}

fn show_neighbours(b: &mut Bridges) -> String {
    let mut out = format!("{:<ADDRESS_WIDTH$}{:<20}Bridge\n{}\n", "IP", "MAC", "=".repeat(74));
    let now_ms = b.now_ms();
    b.layers().underlay().with_neighbours(|all| {
        for (bridge, ip, n) in all.iter() {
            let stale = if n.expires_ms <= now_ms { " STALE" } else { "" };
            let _ = writeln!(out, "{:<ADDRESS_WIDTH$}{}   {bridge}{stale}", show_ip(ip), n.mac);
        }
    });
    out
}

fn set_neighbour(b: &mut Bridges, args: &[&str]) -> Answer {
    let [bridge, ip, mac] = args else { return Err("bad IP address".into()) };
    let ip = match ip.parse::<Ipv4Addr>() {
        Ok(v4) => v4.to_ipv6_mapped(),
        Err(_) => ip.parse::<Ipv6Addr>().map_err(|_| "bad IP address")?,
    };
    let mac: EthAddr = mac.parse().map_err(|()| "bad MAC address")?;
    let bridge: Arc<str> = (*bridge).into();
    b.layers().underlay().set_neighbour(&bridge, ip, mac, b.now_ms());
    Ok("OK".into())
}

fn flush_neighbours(b: &mut Bridges, _: &[&str]) -> Answer {
    b.layers().underlay().flush_neighbours(None);
    Ok("OK".into())
}

fn aging(b: &mut Bridges, args: &[&str]) -> Answer {
    let now_ms = b.now_ms();
    let underlay = b.layers().underlay();
    let Some(text) = args.first() else {
        return Ok(underlay.with_neighbours(|n| n.aging_s()).to_string());
    };
    let seconds = leading_number(text).and_then(|n| u32::try_from(n).ok());
    let seconds = seconds.filter(|s| (1..=AGING_MAX_S).contains(s)).ok_or("bad aging value")?;
    underlay.with_neighbours(|n| n.set_aging(seconds, now_ms));
    Ok("OK".into())
}

/// The digits at a text's beginning.
fn leading_number(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

fn show_ports(b: &mut Bridges, args: &[&str]) -> Answer {
    let verbose = args.first().is_some_and(|a| a.eq_ignore_ascii_case("-v"));
    let mut out = "Listening ports:\n".to_owned();
    for (_, domain) in b.layers().domains() {
        let state = domain.fabric.read();
        if verbose {
            out += &state.endpoints.describe();
            continue;
        }
        for l in state.endpoints.listeners() {
            let _ = writeln!(out, "{} ({}) ref_cnt={}", l.name, l.port, l.users);
        }
    }
    Ok(out)
}

fn egress_port_range(b: &mut Bridges, args: &[&str]) -> Answer {
    let tunnels = b.layers().env().tunnels();
    let [min, max] = args else {
        let (min, max) = tunnels.source_ports();
        return Ok(format!("Tunnel UDP source port range: {min}-{max}\n"));
    };
    let port = |text: &str| leading_number(text).and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0);
    let Some(min) = port(min) else { return Ok("Invalid min.".into()) };
    let Some(max) = port(max) else { return Ok("Invalid max.".into()) };
    tunnels.set_source_ports(min.min(max), min.max(max));
    Ok("OK".into())
}

fn list_tunnels(b: &mut Bridges) -> String {
    let mut out = String::new();
    for (_, domain) in b.layers().domains() {
        let state = domain.fabric.read();
        for (dp_port, owner) in state.tunnels.iter() {
            let port = state.switch(owner.switch).and_then(|s| s.port(owner.port));
            if let Some(port) = port
                && let Attachment::Tunnel { config, .. } = &port.attachment
            {
                out += &describe(&port.name, dp_port, config);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_marks() {
        let of = |text| cidr(text).map(|(ip, len)| (show_ip(ip), len));
        assert_eq!(of("1.2.3.4/24"), Some(("1.2.3.4".into(), 120)));
        assert_eq!(of("1.2.3.4"), Some(("1.2.3.4".into(), 128)));
        assert_eq!(of("1.2.3.4/255.0.0.0"), Some(("1.2.3.4".into(), 104)));
        assert_eq!(of("fd00::1/64"), Some(("fd00::1".into(), 64)));
        for bad in ["1.2.3", "1.2.3.4/33", "1.2.3.4/255.0.255.0", "fd00::/129", "x"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        let marks = ["pkt_mark=7", "pkt_mark=0x10", "pkt_mark=x", "mark=7"].map(pkt_mark);
        assert_eq!(marks, [Some(7), Some(16), None, None]);
    }
}
