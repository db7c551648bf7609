//! A megaflow on a line of `dpctl/dump-flows` and `dpctl/get-flow`.

use super::{Style, actions_text, flow_text};
use crate::{DpFlow, FlowStats};
use std::fmt::Write;

/// `packets:1, bytes:60, used:0.100s, flags:S`; `now_ms` is the switch's clock.
pub fn stats_text(stats: &FlowStats, now_ms: u64) -> String {
    let mut out = String::new();
    let _ = write!(out, "packets:{}, bytes:{}, used:", stats.packets, stats.bytes);
    let _ = match stats.used_ms {
        // Rounded to thousandths by the division alone.
        Some(used) => {
            let ms = now_ms.saturating_sub(used);
            write!(out, "{}.{:03}s", ms / 1000, ms % 1000)
        }
        None => write!(out, "never"),
    };
    if stats.tcp_flags != 0 {
        out.push_str(", flags:");
        out.push_str(&tcp_flags_text(stats.tcp_flags));
    }
    out
}

/// TCP flags by letter, as tcpdump has them.
pub fn tcp_flags_text(flags: u16) -> String {
    const LETTERS: [(u16, &str); 12] = [
        (0x002, "S"),
        (0x001, "F"),
        (0x008, "P"),
        (0x004, "R"),
        (0x020, "U"),
        (0x010, "."),
        (0x040, "E"),
        (0x080, "C"),
        (0x100, "N"),
        (0x200, "[200]"),
        (0x400, "[400]"),
        (0x800, "[800]"),
    ];
    if flags == 0 {
        return "none".into();
    }
    LETTERS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, l)| *l).collect()
}

/// One megaflow, without a line break. `extra` is the datapath's own note, shown with `-m`.
pub fn dump_line(flow: &DpFlow, now_ms: u64, extra: Option<&str>, style: &Style<'_>) -> String {
    let mut out = String::new();
    if style.verbose {
        let _ = write!(out, "ufid:{}, ", flow.ufid);
    }
    out.push_str(&flow_text(&flow.key, &flow.mask, style));
    let _ = write!(out, ", {}", stats_text(&flow.stats, now_ms));
    if style.verbose {
        out.push_str(", dp:ovs");
    }
    let _ = write!(out, ", actions:{}", actions_text(&flow.actions, style.names));
    if let Some(extra) = extra.filter(|_| style.verbose) {
        let _ = write!(out, ", dp-extra-info:{extra}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, PortNo, Ufid};
    use flow::{Flow, Mask};
    use std::sync::Arc;

    #[test]
    fn line_with_and_without_detail() {
        let mut mask = Mask::NONE;
        (mask.in_port, mask.recirc_id) = (u32::MAX, u32::MAX);
        (mask.dl_type, mask.nw_frag, mask.nw_src) = (u16::MAX, 3, u32::MAX);
        let key = Flow { in_port: 1, dl_type: 0x0800, nw_src: 0x0102_0304, ..Flow::ZERO };
        let flow = DpFlow {
            ufid: Ufid(1),
            key: Arc::new(key),
            mask: Arc::new(mask),
            actions: Arc::new(vec![Action::Output(PortNo(2))]),
            stats: FlowStats { packets: 2, bytes: 120, used_ms: Some(1500), tcp_flags: 0x12 },
            pmd: None,
        };
        let brief = dump_line(&flow, 2600, None, &Style::default());
        assert_eq!(
            brief,
            "recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(src=1.2.3.4,frag=no), \
             packets:2, bytes:120, used:1.100s, flags:S., actions:2"
        );
        let style = Style { verbose: true, ..Style::default() };
        let full = dump_line(&flow, 2600, Some("note"), &style);
        assert_eq!(
            full,
            "ufid:00000000-0000-0000-0000-000000000001, skb_priority(0/0),skb_mark(0/0),ct_state(0/0),\
             ct_zone(0/0),ct_mark(0/0),ct_label(0/0),recirc_id(0),dp_hash(0/0),in_port(1),\
             packet_type(ns=0/0,id=0/0),eth(src=00:00:00:00:00:00/00:00:00:00:00:00,\
             dst=00:00:00:00:00:00/00:00:00:00:00:00),eth_type(0x0800),\
             ipv4(src=1.2.3.4,dst=0.0.0.0/0.0.0.0,proto=0/0,tos=0/0,ttl=0/0,frag=no), \
             packets:2, bytes:120, used:1.100s, flags:S., dp:ovs, actions:2, dp-extra-info:note"
        );
        assert_eq!(stats_text(&FlowStats::default(), 5), "packets:0, bytes:0, used:never");
    }
}
