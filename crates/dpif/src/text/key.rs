//! A whole key with its mask.
//!
//! Which attributes a key has, and which a mask has, follows from the key alone; what of that is
//! printed depends on the mask and on how much was asked for.

use super::Style;
use super::attr_text::{self, Value};
use crate::attr::Attr;
use crate::key_attrs::{Node, nodes};
use flow::{Flow, Mask};

/// The key and mask of a megaflow, as `dpctl/dump-flows` prints them.
pub fn flow_text(key: &Flow, mask: &Mask, style: &Style<'_>) -> String {
    let mut out = String::new();
    put_list(&mut out, &nodes(key, Some(mask), style.vlans()), key, Some(mask), style);
    out
}

/// A key alone, every field of it (`odp_flow_key_format`).
pub fn flow_key_text(key: &Flow, style: &Style<'_>) -> String {
    let mut out = String::new();
    let style = Style { verbose: true, ..*style };
    put_list(&mut out, &nodes(key, None, style.vlans()), key, None, &style);
    out
}

/// Prints one level of nesting.
fn put_list(out: &mut String, list: &[Node], key: &Flow, mask: Option<&Flow>, style: &Style<'_>) {
    let start = out.len();
    let (mut has_ether_type, mut has_packet_type) = (false, false);
    let is_shown = |n: &&Node| n.in_key && (style.nd_ext || n.attr != Attr::NdExt);
    for node in list.iter().filter(is_shown) {
        has_ether_type |= node.attr == Attr::EtherType;
        has_packet_type |= node.attr == Attr::PacketType;
        let wildcarded = mask.is_some_and(|m| !node.in_mask || node.is_wildcard(m));
        let is_nested = matches!(node.attr, Attr::Encap | Attr::Tunnel | Attr::Nsh);
        if style.verbose || !wildcarded || is_nested {
            separate(out, start);
            put_node(out, node, key, mask, style);
        } else if node.attr == Attr::Ethernet && !has_packet_type {
            // An Ethernet frame is told from other packets by this alone.
            separate(out, start);
            out.push_str("eth()");
        } else if node.attr == Attr::PacketType {
            has_packet_type = false;
        }
    }
    let masks_type = list.iter().any(|n| n.attr == Attr::EtherType && n.in_mask);
    if !has_ether_type && masks_type && mask.is_some() && out.len() > start {
        out.push_str(",eth_type(0/0xffff)");
    }
}

fn separate(out: &mut String, start: usize) {
    if out.len() > start {
        out.push(',');
    }
}

fn put_node(out: &mut String, node: &Node, key: &Flow, mask: Option<&Flow>, style: &Style<'_>) {
    if node.attr == Attr::Encap {
        out.push_str("encap(");
        // Ports inside have no names, but there are none.
        put_list(out, &node.inner, key, mask, style);
        out.push(')');
        return;
    }
    let shown = match (mask, node.in_mask) {
        (Some(_), false) => Some(&Flow::ZERO),
        (m, _) => m,
    };
    let (key, shown) = (node.view(key), shown.map(|m| node.mask_view(m)));
    let value = Value { vlan: node.vlan, labels: node.labels, ..Value::new(&key, shown.as_deref()) };
    attr_text::put(out, node.attr, &value, style);
}
