//! Commands of the control socket over bridges: `fdb/*`, `ofproto/list`, `qos/*`.

use super::bridges::Bridges;
use flow::EthAddr;
use netdev::Netdev;
use ofproto::ids::OfPort;
use ofproto::mac_table::Totals;
use ofproto::switch::Switch;
use std::fmt::Write;
use unixctl::Registry;

type Answer = Result<String, String>;

/// The commands, over [`Bridges`].
pub fn registry() -> Registry<Bridges> {
    let mut r = Registry::new();
    r.add_sync("ofproto/list", "", 0, 0, |b: &mut Bridges, _| {
        Ok(b.layers().bridges().map(|name| format!("{name}\n")).collect())
    });
    r.add_sync("fdb/show", "bridge", 1, 1, |b, args| on(b, args, |switch, now_ms| Ok(show(switch, now_ms))));
    r.add_sync("fdb/stats-show", "bridge", 1, 1, |b, args| on(b, args, |switch, _| Ok(stats(switch))));
    r.add_sync("fdb/flush", "[bridge]", 0, 1, |b, args| {
        each(b, args, |switch| switch.macs.lock().flush(), "table successfully flushed")
    });
    r.add_sync("fdb/stats-clear", "[bridge]", 0, 1, |b, args| {
        let clear = |switch: &Switch| switch.macs.lock().totals = Totals::default();
        each(b, args, clear, "statistics successfully cleared")
    });
    r.add_sync("fdb/add", "bridge port vlan mac", 4, 4, |b, args| {
        on(b, args, |switch, now_ms| add(switch, args, now_ms))
    });
    r.add_sync("fdb/del", "bridge vlan mac", 3, 3, |b, args| on(b, args, |switch, _| delete(switch, args)));
    r.add_sync("bridge/reconnect", "[bridge]", 0, 1, |b, args| {
        let found = b.reconnect(args.first().copied());
        if found { Ok(String::new()) } else { Err("Unknown bridge".to_owned()) }
    });
    r.add_sync("qos/show-types", "interface", 1, 1, |b, args| qos(b, args, qos_types));
    r.add_sync("qos/show", "interface", 1, 1, |b, args| qos(b, args, show_qos));
    r
}

/// Answers about the bridge that the first argument names.
fn on(bridges: &Bridges, args: &[&str], f: impl FnOnce(&Switch, u64) -> Answer) -> Answer {
    let name = args.first().copied().unwrap_or_default();
    let now_ms = bridges.now_ms();
    let answer = bridges.layers().with_switch(name, |switch| f(switch, now_ms));
    bridges.layers().macs_changed(name);
    answer.unwrap_or_else(|| Err("no such bridge".to_owned()))
}

/// Does something to the named bridge, or to all.
fn each(bridges: &Bridges, args: &[&str], f: impl Fn(&Switch), done: &str) -> Answer {
    if !args.is_empty() {
        return on(bridges, args, |switch, _| {
            f(switch);
            Ok(done.to_owned())
        });
    }
    for name in bridges.layers().bridges() {
        bridges.layers().with_switch(name, &f);
        bridges.layers().macs_changed(name);
    }
    Ok(done.to_owned())
}

/// A port of a bundle, as numbers are printed for people.
fn bundle_port(switch: &Switch, bundle: ofproto::ids::BundleId) -> String {
    match switch.bundles.get(&bundle).and_then(|b| b.settings.members.first()) {
        Some(&OfPort::LOCAL) => "LOCAL".to_owned(),
        Some(no) => no.0.to_string(),
        None => "?".to_owned(),
    }
}

fn show(switch: &Switch, now_ms: u64) -> String {
    let mut out = String::from(" port  VLAN  MAC                Age\n");
    let macs = switch.macs.lock();
    for (vlan, mac, entry) in macs.iter() {
        let port = bundle_port(switch, entry.bundle);
        let age = match entry.expires_ms {
            None => "static".to_owned(),
            Some(_) => format!("{:3}", macs.age_s(&entry, now_ms)),
        };
        let _ = writeln!(out, "{port:>5}  {vlan:>4}  {mac}  {age}");
    }
    out
}

fn stats(switch: &Switch) -> String {
    let macs = switch.macs.lock();
    let mut out = format!("Statistics for bridge \"{}\":\n", switch.name);
    let lines = [
        ("Current/maximum MAC entries in the table", format!("{}/{}", macs.len(), macs.max())),
        ("Current static MAC entries in the table ", macs.static_len().to_string()),
        ("Total number of learned MAC entries     ", macs.totals.learned.to_string()),
        ("Total number of expired MAC entries     ", macs.totals.expired.to_string()),
        ("Total number of evicted MAC entries     ", macs.totals.evicted.to_string()),
        ("Total number of port moved MAC entries  ", macs.totals.moved.to_string()),
    ];
    for (what, value) in lines {
        let _ = writeln!(out, "  {what}: {value}");
    }
    out
}

/// A number as atoi(3) reads it, in 16 bits.
fn vlan(text: &str) -> u16 {
    let text = text.trim_start();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let value: i64 = digits.get(..end).and_then(|d| d.parse().ok()).unwrap_or(0);
    (if negative { -value } else { value }) as u16
}

fn mac_argument(text: &str) -> Result<EthAddr, String> {
    text.parse().map_err(|()| "bad MAC address".to_owned())
}

fn add(switch: &Switch, args: &[&str], now_ms: u64) -> Answer {
    let [_, port, vid, mac] = args else { return Err(String::new()) };
    let (vid, mac) = (vlan(vid), mac_argument(mac)?);
    let Some(port) = switch.port_by_name(port) else {
        return Err("software error, odp port is present but no ofp port".to_owned());
    };
    let refused = || "could not add static mac entry\n".to_owned();
    let bundle = port.bundle.and_then(|id| switch.bundles.get(&id)).ok_or_else(refused)?;
    let mut macs = switch.macs.lock();
    let mut said = String::new();
    if let Some(old) = macs.lookup(mac, vid).copied()
        && (old.bundle != bundle.id || old.expires_ms.is_some())
    {
        let kind = if old.expires_ms.is_none() { "static" } else { "dynamic" };
        said = format!("Overriding already existing {kind} entry on {}\n", bundle_port(switch, old.bundle));
    }
    macs.add_static(mac, vid, bundle.id, now_ms);
    Ok(said)
}

fn delete(switch: &Switch, args: &[&str]) -> Answer {
    let [_, vid, mac] = args else { return Err(String::new()) };
    let (vid, mac) = (vlan(vid), mac_argument(mac)?);
    let mut macs = switch.macs.lock();
    match macs.lookup(mac, vid) {
        Some(entry) if entry.expires_ms.is_none() => {
            macs.remove(mac, vid);
            Ok(String::new())
        }
        _ => Err("could not find static mac entry\n".to_owned()),
    }
}

/// No device has QoS yet.
fn qos(bridges: &Bridges, args: &[&str], text: fn(&str, &dyn Netdev) -> String) -> Answer {
    let name = args.first().copied().unwrap_or_default();
    let port = bridges.layers().find_port(name).ok_or("no such interface")?;
    Ok(text(name, port.device.as_ref()))
}

fn qos_types(name: &str, device: &dyn Netdev) -> String {
    match device.qos_types() {
        [] => format!("No QoS types supported for interface: {name}\n"),
        types => types.iter().map(|kind| format!("QoS type: {kind}\n")).collect(),
    }
}

fn show_qos(name: &str, device: &dyn Netdev) -> String {
    let Some(qos) = device.qos() else { return format!("QoS not configured on {name}\n") };
    let mut out = format!("QoS: {name} {}\n", qos.kind);
    for (key, value) in &qos.options {
        let _ = writeln!(out, "{key}: {value}");
    }
    for queue in &qos.queues {
        let _ = match queue.id {
            0 => writeln!(out, "\nDefault:"),
            id => writeln!(out, "\nQueue {id}:"),
        };
        for (key, value) in &queue.options {
            let _ = writeln!(out, "  {key}: {value}");
        }
        let counters =
            [("tx_packets", queue.tx_packets), ("tx_bytes", queue.tx_bytes), ("tx_errors", queue.tx_errors)];
        for (key, value) in counters {
            let _ = writeln!(out, "  {key}: {value}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use ofproto::admin::NewPort;
    use ofproto::port::{Attachment, BundleSettings, LinkFacts};
    use ofproto::switch::State;

    #[test]
    fn vlans_are_read_as_by_atoi() {
        assert_eq!(["5", " 7x", "x", "-1", "65537"].map(vlan), [5, 7, 0, 65535, 1]);
    }

    #[test]
    fn static_entries_come_and_go() {
        let mut state = State::default();
        let id = state.add_switch("br0", 1);
        for name in ["p1", "p2"] {
            let link = LinkFacts::default();
            let new = NewPort {
                name: name.into(),
                kind: "dummy".into(),
                attachment: Attachment::None,
                wanted: None,
                is_local: false,
                link,
            };
            let no = state.add_port(id, new, 0).unwrap();
            state.switch_mut(id).unwrap().set_bundle(BundleSettings::trunk(name, no));
        }
        let switch = state.switch(id).unwrap();
        let mac = "00:00:00:00:00:01";
        assert_eq!(add(switch, &["br0", "p1", "0", "x"], 0), Err("bad MAC address".into()));
        assert!(add(switch, &["br0", "p9", "0", mac], 0).unwrap_err().starts_with("software error"));
        assert_eq!(add(switch, &["br0", "p1", "0", mac], 0), Ok(String::new()));
        assert_eq!(add(switch, &["br0", "p1", "0", mac], 0), Ok(String::new()));
        let again = add(switch, &["br0", "p2", "0", mac], 0);
        assert_eq!(again, Ok("Overriding already existing static entry on 1\n".into()));
        assert_eq!(show(switch, 0).lines().nth(1), Some("    2     0  00:00:00:00:00:01  static"));
        assert!(stats(switch).contains("  Current/maximum MAC entries in the table: 1/8192\n"));
        assert_eq!(delete(switch, &["br0", "0", mac]), Ok(String::new()));
        assert_eq!(delete(switch, &["br0", "0", mac]), Err("could not find static mac entry\n".into()));
        assert_eq!(show(switch, 0), " port  VLAN  MAC                Age\n");
    }
}
