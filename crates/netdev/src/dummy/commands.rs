//! The `netdev-dummy/*` commands, without the control socket: arguments in, reply or error text out.

use super::{DummyDevice, DummyRegistry};
use crate::device::Netdev;
use packet::Packet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A reply, or the text of an error reply.
pub type Reply = Result<String, String>;

/// Makes a packet from a flow in datapath syntax; with a length, of exactly that many bytes.
pub type ComposeFlow<'a> = &'a dyn Fn(&str, Option<usize>) -> Result<Packet, String>;

const ETHERNET_HEADER: usize = 14;
/// Shortest frame, without its check sequence.
const ETHERNET_MIN: i64 = 60;

/// `netdev-dummy/receive NAME [--qid ID] PACKET|FLOW [--len LEN]...`: the packets arrive at the port.
///
/// Packets before one in error have arrived.
pub fn receive(registry: &DummyRegistry, args: &[&str], compose: ComposeFlow<'_>) -> Reply {
    let (name, mut rest) = args.split_first().ok_or("no such dummy netdev")?;
    let device = registry.get(name).ok_or("no such dummy netdev")?;
    let mut queue = 0;
    if let ["--qid", id, more @ ..] = rest {
        queue = number(id).try_into().ok().filter(|q| *q < device.n_rxq()).ok_or("bad rx queue id.")?;
        rest = more;
    }
    while let [item, more @ ..] = rest {
        rest = more;
        let packet = match from_hex(item) {
            Some(packet) => packet,
            None => {
                let mut len = None;
                if let ["--len", value, more @ ..] = rest {
                    let value = number(value);
                    if value < ETHERNET_MIN {
                        return Err("too small packet len".to_owned());
                    }
                    len = usize::try_from(value).ok();
                    rest = more;
                }
                compose(item, len)?
            }
        };
        device.receive(queue, packet);
    }
    Ok(String::new())
}

/// `netdev-dummy/set-admin-state [NAME] up|down`.
pub fn set_admin_state(registry: &DummyRegistry, args: &[&str]) -> Reply {
    let state = args.last().map(|s| s.to_ascii_lowercase());
    let up = match state.as_deref() {
        Some("up") => true,
        Some("down") => false,
        _ => return Err("Invalid Admin State".to_owned()),
    };
    let devices = match args {
        [name, _] => vec![known(registry, name)?],
        _ => registry.all(),
    };
    for device in devices {
        let _ = device.set_admin_up(up);
    }
    Ok("OK".to_owned())
}

/// `netdev-dummy/conn-state [NAME]`: one line per port with a stream, or for the one asked for.
pub fn conn_state(registry: &DummyRegistry, args: &[&str]) -> Reply {
    let line = |name: &str, state: Option<bool>| {
        let text = match state {
            Some(true) => "connected",
            Some(false) => "disconnected",
            None => "unknown",
        };
        format!("{name}: {text}\n")
    };
    Ok(match args.first() {
        Some(name) => line(name, registry.get(name).and_then(|d| d.stream_connected())),
        None => registry
            .all()
            .iter()
            .filter(|d| d.stream_connected().is_some())
            .map(|d| line(d.name(), d.stream_connected()))
            .collect(),
    })
}

/// `netdev-dummy/ip4addr NAME ADDRESS[/PREFIX|/MASK]`: the port answers ARP requests for it.
pub fn ip4addr(registry: &DummyRegistry, args: &[&str]) -> Reply {
    let [name, text] = args else { return Err("Unknown Dummy Interface".to_owned()) };
    let device = known(registry, name)?;
    let (address, mask) = parse_ip4(text)?;
    device.set_ip4(address, mask);
    Ok("OK".to_owned())
}

/// `netdev-dummy/ip6addr NAME ADDRESS[/PREFIX]`.
pub fn ip6addr(registry: &DummyRegistry, args: &[&str]) -> Reply {
    let [name, text] = args else { return Err("Unknown Dummy Interface".to_owned()) };
    let device = known(registry, name)?;
    let (address, prefix) = parse_ip6(text)?;
    device.set_ip6(address, prefix);
    Ok("OK".to_owned())
}

fn known(registry: &DummyRegistry, name: &str) -> Result<Arc<DummyDevice>, String> {
    registry.get(name).ok_or_else(|| "Unknown Dummy Interface".to_owned())
}

/// C's `strtol`: the leading digits, 0 without any.
fn number(text: &str) -> i64 {
    let text = text.trim_start();
    let digits = text.strip_prefix('-').unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let value = digits.get(..end).and_then(|d| d.parse::<i64>().ok()).unwrap_or(0);
    if text.starts_with('-') { -value } else { value }
}

/// A frame of at least an Ethernet header in hexadecimal; blanks and dots between bytes do not count.
fn from_hex(text: &str) -> Option<Packet> {
    let mut bytes = Vec::new();
    let mut rest = text.trim_start_matches([' ', '.', '\t', '\r', '\n']);
    while !rest.is_empty() {
        let (byte, more) = rest.split_at_checked(2)?;
        if !byte.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(byte, 16).ok()?);
        rest = more.trim_start_matches([' ', '.', '\t', '\r', '\n']);
    }
    (bytes.len() >= ETHERNET_HEADER).then(|| Packet::from_slice(&bytes))
}

fn parse_ip4(text: &str) -> Result<(Ipv4Addr, Ipv4Addr), String> {
    let invalid = || format!("{text}: invalid IP address");
    let Some((address, mask)) = text.split_once('/') else {
        return Ok((text.parse().map_err(|_| invalid())?, Ipv4Addr::BROADCAST));
    };
    let address = address.parse().map_err(|_| invalid())?;
    if let Ok(mask) = mask.parse() {
        return Ok((address, mask));
    }
    let prefix: i64 = mask.parse().map_err(|_| invalid())?;
    match u32::try_from(prefix) {
        Ok(n) if n <= 32 => Ok((address, Ipv4Addr::from(u32::MAX.checked_shl(32 - n).unwrap_or(0)))),
        _ => Err(format!("{text}: IPv4 network prefix bits not between 0 and 32, inclusive")),
    }
}

fn parse_ip6(text: &str) -> Result<(Ipv6Addr, u8), String> {
    let invalid = || format!("{text}: invalid IPv6 address");
    let (address, prefix) = text.split_once('/').unwrap_or((text, "128"));
    let address = address.parse().map_err(|_| invalid())?;
    if let Ok(mask) = prefix.parse::<Ipv6Addr>() {
        let bits = u128::from(mask);
        let ones = bits.leading_ones();
        if bits.checked_shl(ones).unwrap_or(0) != 0 {
            return Err(format!("{text}: IPv6 CIDR network required"));
        }
        return Ok((address, ones as u8));
    }
    let prefix: i64 = prefix.parse().map_err(|_| invalid())?;
    match u8::try_from(prefix) {
        Ok(n) if n <= 128 => Ok((address, n)),
        _ => Err(format!("{text}: IPv6 network prefix bits not between 0 and 128, inclusive")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_their_errors() {
        let v4 = |s| parse_ip4(s).map(|(a, m)| format!("{a}/{m}"));
        assert_eq!(v4("1.2.3.4").as_deref(), Ok("1.2.3.4/255.255.255.255"));
        assert_eq!(v4("1.2.3.4/0").as_deref(), Ok("1.2.3.4/0.0.0.0"));
        assert_eq!(v4("1.2.3.4/24").as_deref(), Ok("1.2.3.4/255.255.255.0"));
        assert_eq!(v4("1.2.3.4/255.0.0.0").as_deref(), Ok("1.2.3.4/255.0.0.0"));
        assert_eq!(
            v4("1.2.3.4/33").expect_err("33"),
            "1.2.3.4/33: IPv4 network prefix bits not between 0 and 32, inclusive"
        );
        assert_eq!(v4("1.2.3").expect_err("short"), "1.2.3: invalid IP address");
        assert_eq!(parse_ip6("fc00::1/64"), Ok(("fc00::1".parse().expect("v6"), 64)));
        assert_eq!(parse_ip6("fc00::1").map(|p| p.1), Ok(128));
        assert!(parse_ip6("fc00::1/ffff::1").expect_err("mask").ends_with("CIDR network required"));
    }

    #[test]
    fn hexadecimal_frames() {
        assert_eq!(from_hex("00112233445566778899aabb0800").map(|p| p.len()), Some(14));
        assert_eq!(from_hex("0011 2233.4455 66778899aabb0800 45").map(|p| p.len()), Some(15));
        for bad in ["", "0011", "00112233445566778899aabb080", "in_port(1)", "+0112233445566778899aabb0800"] {
            assert!(from_hex(bad).is_none(), "{bad}");
        }
        assert_eq!((number("12x"), number("-3"), number("x")), (12, -3, 0));
    }
}
