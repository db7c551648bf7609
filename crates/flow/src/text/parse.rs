//! Flows and matches from text.

use super::*;
use crate::field::{Field, Protocols};
use crate::flow_match::Match;
use crate::key::{Flow, Mask, PT_ETH};
use crate::port;
use crate::prereq::{eth_type, ip_proto};
use crate::tlv::TlvTable;

/// What a word such as `tcp6` stands for: Ethernet type and IP protocol (0 for none).
const PROTOCOLS: [(&str, u16, u8); 17] = [
    ("ip", eth_type::IPV4, 0),
    ("ipv4", eth_type::IPV4, 0),
    ("ip4", eth_type::IPV4, 0),
    ("arp", eth_type::ARP, 0),
    ("icmp", eth_type::IPV4, ip_proto::ICMP),
    ("tcp", eth_type::IPV4, ip_proto::TCP),
    ("udp", eth_type::IPV4, ip_proto::UDP),
    ("sctp", eth_type::IPV4, ip_proto::SCTP),
    ("ipv6", eth_type::IPV6, 0),
    ("ip6", eth_type::IPV6, 0),
    ("icmp6", eth_type::IPV6, ip_proto::ICMPV6),
    ("tcp6", eth_type::IPV6, ip_proto::TCP),
    ("udp6", eth_type::IPV6, ip_proto::UDP),
    ("sctp6", eth_type::IPV6, ip_proto::SCTP),
    ("rarp", eth_type::RARP, 0),
    ("mpls", eth_type::MPLS, 0),
    ("mplsm", eth_type::MPLS_MCAST, 0),
];

/// Ethernet type and IP protocol (0 for any) that `word` stands for, e.g. `tcp6`.
pub fn protocol_keyword(word: &str) -> Option<(u16, u8)> {
    PROTOCOLS.iter().find(|p| p.0 == word).map(|p| (p.1, p.2))
}

fn is_separator(c: char) -> bool {
    matches!(c, ',' | ' ' | '\t' | '\r' | '\n')
}

/// Bytes of `s` before one of `delimiters` that is not within parentheses.
fn value_len(s: &str, is_delimiter: impl Fn(char) -> bool) -> usize {
    let mut level = 0;
    for (i, c) in s.char_indices() {
        match c {
            _ if level == 0 && is_delimiter(c) => return i,
            '(' => level += 1,
            ')' if level > 0 => level -= 1,
            _ => {}
        }
    }
    s.len()
}

/// Splits `key`, `key=value`, `key:value` and `key(value)` pairs, between commas and blanks. A value may
/// have commas within parentheses; one of the form `(x)->y` is taken whole, as `x)->y`.
pub fn key_values(s: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = s;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(is_separator);
        if rest.is_empty() {
            return None;
        }
        let n = rest.find(|c| matches!(c, ':' | '=' | '(') || is_separator(c)).unwrap_or(rest.len());
        let (key, after) = rest.split_at(n);
        let mut chars = after.chars();
        let delimiter = chars.next();
        rest = chars.as_str();
        let mut n = match delimiter {
            Some(':' | '=') => value_len(rest, is_separator),
            Some('(') => value_len(rest, |c| c == ')'),
            _ => return Some((key, "")),
        };
        if delimiter == Some('(') && rest[n..].starts_with(")->") {
            n += value_len(&rest[n..], is_separator);
        }
        let (value, after) = rest.split_at(n);
        let mut chars = after.chars();
        chars.next();
        rest = chars.as_str();
        Some((key, value))
    })
}

/// Parses a packet's key as `ofproto/trace` takes it, e.g. `in_port=1,tcp,nw_src=10.0.0.1`: each field
/// once, without a mask, after its prerequisites. Without `in_port`, the port is [`port::NONE`].
///
/// Also returns the mask of what was named. The error is OVS's text.
pub fn parse_exact_flow(
    s: &str,
    tlv: Option<&TlvTable>,
    names: &dyn PortNames,
) -> Result<(Flow, Mask), String> {
    let tlv = tlv.unwrap_or(&TlvTable::EMPTY);
    let (mut flow, mut mask) = (Flow::ZERO, Mask::NONE);
    for (key, value) in key_values(s) {
        if let Some((dl_type, nw_proto)) = protocol_keyword(key) {
            if flow.dl_type != 0 {
                return Err(format!("{s}: Ethernet type set multiple times"));
            }
            (flow.dl_type, mask.dl_type) = (dl_type, 0xffff);
            if nw_proto != 0 {
                if flow.nw_proto != 0 {
                    return Err(format!("{s}: network protocol set multiple times"));
                }
                (flow.nw_proto, mask.nw_proto) = (nw_proto, 0xff);
            }
            continue;
        }
        let field = Field::by_name(key).ok_or_else(|| format!("{s}: unknown field {key}"))?;
        if !field.prereqs_ok_in_packet(&flow) {
            return Err(format!("{s}: prerequisites not met for setting {key}"));
        }
        if field.is_set(&flow) {
            return Err(format!("{s}: field {key} set multiple times"));
        }
        let v = field.parse_value(value, names).map_err(|e| format!("{s}: bad value for {key} ({e})"))?;
        field.set_in(&mut flow, &v, tlv);
        field.unwildcard_in(&mut mask, tlv);
    }
    if flow.in_port == 0 {
        flow.in_port = port::NONE.into();
    }
    Ok((flow, mask))
}

/// Adds `field=value` to `m`, where the value may have a mask or (for a field's presence) be empty.
/// Returns the protocols that can express it.
pub fn parse_match_field(
    m: &mut Match,
    field: Field,
    value: &str,
    names: &dyn PortNames,
    tlv: Option<&TlvTable>,
) -> Result<Protocols, String> {
    let (v, mask) = field.parse_masked(if value.is_empty() { "0/0" } else { value }, names)?;
    let protocols = m.set_field(field, &v, Some(&mask), tlv)?;
    m.add_ethernet_prereq(field);
    Ok(protocols)
}

/// Parses a match as ovs-ofctl(8) describes it (fields only: no priority, table or actions). Returns it
/// with the protocols that can express it.
pub fn parse_match(
    s: &str,
    names: &dyn PortNames,
    tlv: Option<&TlvTable>,
) -> Result<(Match, Protocols), String> {
    let mut m = Match::catchall();
    let mut protocols = Protocols::ANY;
    for (key, value) in key_values(s) {
        if let Some((dl_type, nw_proto)) = protocol_keyword(key) {
            m.set_dl_type(dl_type);
            if nw_proto != 0 {
                m.set(Field::IpProto, nw_proto);
            }
            m.set_default_packet_type();
        } else if key == "eth" {
            m.set(Field::PacketType, PT_ETH);
        } else if let Some(field) = Field::by_name(key) {
            protocols &= parse_match_field(&mut m, field, value, names, tlv)?;
        } else {
            return Err(format!("unknown keyword {key}"));
        }
    }
    Ok((m, protocols))
}
