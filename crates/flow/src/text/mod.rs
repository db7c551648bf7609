//! Flows and matches as text: what ovs-ofctl(8) and ovs-fields(7) describe.

mod format;
mod parse;
mod scan;
#[cfg(test)]
mod tests;
mod value;

pub use format::{flow_to_string, format_match};
pub use parse::{key_values, parse_exact_flow, parse_match, parse_match_field, protocol_keyword};
pub use value::{format_port, parse_port};

use std::net::Ipv6Addr;

/// Names of a bridge's ports.
pub trait PortNames {
    fn name_of(&self, port: u16) -> Option<String>;
    fn number_of(&self, name: &str) -> Option<u16>;
}

/// No names: ports are numbers.
pub struct NoNames;

impl PortNames for NoNames {
    fn name_of(&self, _port: u16) -> Option<String> {
        None
    }
    fn number_of(&self, _name: &str) -> Option<u16> {
        None
    }
}

/// Names of bits, lowest first.
type BitNames = [(&'static str, u32)];

const CT_STATE: &BitNames = &[
    ("new", 1 << 0),
    ("est", 1 << 1),
    ("rel", 1 << 2),
    ("rpl", 1 << 3),
    ("inv", 1 << 4),
    ("trk", 1 << 5),
    ("snat", 1 << 6),
    ("dnat", 1 << 7),
];
const TCP_FLAGS: &BitNames = &[
    ("fin", 1 << 0),
    ("syn", 1 << 1),
    ("rst", 1 << 2),
    ("psh", 1 << 3),
    ("ack", 1 << 4),
    ("urg", 1 << 5),
    ("ece", 1 << 6),
    ("cwr", 1 << 7),
    ("ns", 1 << 8),
    ("[200]", 1 << 9),
    ("[400]", 1 << 10),
    ("[800]", 1 << 11),
];
const TUN_FLAGS: &BitNames = &[("oam", 1 << 0), ("df", 1 << 1), ("csum", 1 << 2), ("key", 1 << 3)];

fn bit_name(names: &BitNames, bit: u32) -> Option<&'static str> {
    names.iter().find(|(_, b)| *b == bit).map(|(n, _)| *n)
}

fn bits_of(x: u32) -> impl Iterator<Item = u32> {
    (0..32).map(|i| 1 << i).filter(move |b| x & b != 0)
}

/// Names with `|` between them, then the bits without a name.
pub(crate) fn flags_text(names: &BitNames, flags: u32) -> String {
    if flags == 0 {
        return "0".into();
    }
    let mut parts: Vec<String> =
        bits_of(flags).filter_map(|b| bit_name(names, b)).map(String::from).collect();
    let unnamed = bits_of(flags).filter(|b| bit_name(names, *b).is_none()).sum::<u32>();
    if unnamed != 0 {
        parts.push(format!("{unnamed:#x}"));
    }
    parts.join("|")
}

/// `+set-clear` for the bits in `mask`; names only if that is `all`.
pub(crate) fn masked_flags_text(names: &BitNames, flags: u32, mask: u32, all: u32) -> String {
    if mask == all {
        return flags_text(names, flags);
    }
    if mask == 0 {
        return "0/0".into();
    }
    let sign = |b| if flags & b != 0 { '+' } else { '-' };
    bits_of(mask).map(|b| format!("{}{}", sign(b), bit_name(names, b).unwrap_or("[Unknown]"))).collect()
}

/// An IPv6 address as `inet_ntop` writes it.
pub(crate) fn ipv6_text(a: u128) -> String {
    if a >> 32 == 0 && a >> 16 != 0 {
        format!("::{}", std::net::Ipv4Addr::from(a as u32))
    } else {
        Ipv6Addr::from(a).to_string()
    }
}

/// The prefix length of an IPv6 mask, if it is one.
fn prefix_len128(mask: u128) -> Option<u32> {
    let len = mask.leading_ones();
    (mask.checked_shl(len).unwrap_or(0) == 0).then_some(len)
}

pub(crate) fn ipv6_masked_text(a: u128, mask: u128) -> String {
    match prefix_len128(mask) {
        Some(128) => ipv6_text(a),
        Some(n) => format!("{}/{n}", ipv6_text(a)),
        None => format!("{}/{}", ipv6_text(a), ipv6_text(mask)),
    }
}

pub(crate) fn ipv4_masked_text(a: u32, mask: u32) -> String {
    let ip = std::net::Ipv4Addr::from(a);
    match prefix_len128(u128::from(mask) << 96) {
        Some(32) => ip.to_string(),
        Some(n) => format!("{ip}/{n}"),
        None => format!("{ip}/{}", std::net::Ipv4Addr::from(mask)),
    }
}

pub(crate) fn packet_type_text(value: u32, mask: u32) -> String {
    if value == 0 && mask == u32::MAX {
        return "eth".into();
    }
    let part = |v: u16, m: u16| match (v, m) {
        (_, 0) => "*".into(),
        (0..=9, 0xffff) => v.to_string(),
        (0..=9, _) => format!("{v}/{m:#x}"),
        (_, 0xffff) => format!("{v:#x}"),
        _ => format!("{v:#x}/{m:#x}"),
    };
    let (ns, ns_type) = (part((value >> 16) as u16, (mask >> 16) as u16), part(value as u16, mask as u16));
    format!("packet_type=({ns},{ns_type})")
}
