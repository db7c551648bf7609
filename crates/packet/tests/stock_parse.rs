//! The key of a frame against what Open vSwitch's own tool prints for it.

#[path = "common/frames.rs"]
mod frames;

use flow::Flow;
use packet::{Meta, Packet, pcap};
use std::fmt::Write as _;
use std::process::Command;

/// Frames compared in one run.
const FRAMES: u64 = 20_000;

#[test]
fn keys_equal_those_of_stock_tool() {
    let mut file = pcap::file_header().to_vec();
    let frames: Vec<_> = (0..FRAMES).map(frames::frame).filter(|f| f.len() >= 14).collect();
    for f in &frames {
        file.extend(pcap::record_header(0, f.len()));
        file.extend(f);
    }
    let path = std::env::temp_dir().join(format!("stock-parse-{}.pcap", std::process::id()));
    std::fs::write(&path, file).unwrap();
    let out = match Command::new("ovs-ofctl").arg("parse-pcap").arg(&path).output() {
        Ok(o) if o.status.success() => String::from_utf8(o.stdout).unwrap(),
        other => {
            println!("skipped: no ovs-ofctl ({other:?})");
            return;
        }
    };
    std::fs::remove_file(&path).unwrap();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), frames.len());
    for (f, want) in frames.iter().zip(lines) {
        let key = packet::parse::flow_of(&mut Packet::from_slice(f), &Meta::default());
        assert_eq!(text_of(&key), want, "frame {f:02x?}");
    }
}

/// As the tool prints a packet's key (only what can be in one here).
fn text_of(f: &Flow) -> String {
    let mut s = String::new();
    if let Some(name) = protocol_name(f) {
        s = format!("{name},");
    }
    s.push_str("in_port=ANY");
    for (i, v) in f.vlans.iter().enumerate() {
        let n = if i == 0 { String::new() } else { i.to_string() };
        let _ = match v.is_present() {
            true => write!(s, ",dl_vlan{n}={},dl_vlan_pcp{n}={}", v.vid(), v.pcp()),
            false if i == 0 || f.vlans[0].is_present() => write!(s, ",vlan_tci{n}=0x0000"),
            false => Ok(()),
        };
    }
    let _ = write!(s, ",dl_src={},dl_dst={}", f.dl_src, f.dl_dst);
    match f.dl_type {
        0x0800 | 0x86dd => ip_text(&mut s, f),
        0x0806 | 0x8035 => {
            let (spa, tpa) = (v4(f.nw_src), v4(f.nw_dst));
            let _ = write!(s, ",arp_spa={spa},arp_tpa={tpa},arp_op={}", f.nw_proto);
            let _ = write!(s, ",arp_sha={},arp_tha={}", f.arp_sha, f.arp_tha);
        }
        0x8847 | 0x8848 => {
            let l = f.mpls_lse[0];
            let _ = write!(s, ",mpls_label={},mpls_tc={}", l >> 12, l >> 9 & 7);
            let _ = write!(s, ",mpls_ttl={},mpls_bos={}", l & 0xff, l >> 8 & 1);
            for i in 1..3 {
                if f.mpls_lse[i - 1] & 0x100 != 0 {
                    break;
                }
                let _ = write!(s, ",mpls_lse{i}={}", f.mpls_lse[i]);
            }
        }
        0x894f => nsh_text(&mut s, f),
        t => {
            let _ = write!(s, ",dl_type=0x{t:04x}");
        }
    }
    s
}

fn protocol_name(f: &Flow) -> Option<&'static str> {
    let v6 = f.dl_type == 0x86dd;
    Some(match (f.dl_type, f.nw_proto) {
        (0x0800, 1) => "icmp",
        (0x86dd, 58) => "icmp6",
        (0x0800 | 0x86dd, 6) => ["tcp", "tcp6"][usize::from(v6)],
        (0x0800 | 0x86dd, 17) => ["udp", "udp6"][usize::from(v6)],
        (0x0800 | 0x86dd, 132) => ["sctp", "sctp6"][usize::from(v6)],
        (0x0800, _) => "ip",
        (0x86dd, _) => "ipv6",
        (0x0806, _) => "arp",
        (0x8035, _) => "rarp",
        (0x8847, _) => "mpls",
        (0x8848, _) => "mplsm",
        _ => return None,
    })
}

fn v4(a: u32) -> std::net::Ipv4Addr {
    a.into()
}

fn v6(a: flow::U128) -> String {
    let a: std::net::Ipv6Addr = u128::from(a).into();
    a.to_string()
}

fn ip_text(s: &mut String, f: &Flow) {
    let _ = match f.dl_type {
        0x0800 => write!(s, ",nw_src={},nw_dst={}", v4(f.nw_src), v4(f.nw_dst)),
        _ => write!(
            s,
            ",ipv6_src={},ipv6_dst={},ipv6_label=0x{:05x}",
            v6(f.ipv6_src),
            v6(f.ipv6_dst),
            f.ipv6_label
        ),
    };
    if protocol_name(f).is_some_and(|n| n.starts_with("ip")) {
        let _ = write!(s, ",nw_proto={}", f.nw_proto);
    }
    let (tos, ecn) = (f.nw_tos & 0xfc, f.nw_tos & 3);
    let frag = ["no", "first", "?", "later"][usize::from(f.nw_frag)];
    let _ = write!(s, ",nw_tos={tos},nw_ecn={ecn},nw_ttl={},nw_frag={frag}", f.nw_ttl);
    if f.nw_frag & 2 != 0 {
        return;
    }
    match (f.dl_type, f.nw_proto) {
        (0x0800, 1) | (0x86dd, 58) => {
            let _ = write!(s, ",icmp_type={},icmp_code={}", f.tp_src, f.tp_dst);
            if f.nw_proto == 58 && matches!(f.tp_src, 135 | 136) && f.tp_dst == 0 {
                let _ = write!(s, ",nd_target={},nd_sll={},nd_tll={}", v6(f.nd_target), f.arp_sha, f.arp_tha);
            }
        }
        (_, 1 | 6 | 17 | 58 | 132) | (0x0800, 2) => {
            let _ = write!(s, ",tp_src={},tp_dst={}", f.tp_src, f.tp_dst);
        }
        _ => {}
    }
    if f.nw_proto == 6 {
        const NAMES: [&str; 12] =
            ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"];
        let set: Vec<_> = (0..12).filter(|i| f.tcp_flags >> i & 1 != 0).map(|i| NAMES[i]).collect();
        let _ = write!(s, ",tcp_flags={}", if set.is_empty() { "0".into() } else { set.join("|") });
    }
}

fn nsh_text(s: &mut String, f: &Flow) {
    let n = &f.nsh;
    let _ = write!(s, ",dl_type=0x894f,nsh_flags={},nsh_ttl={}", n.flags, n.ttl);
    let _ = write!(s, ",nsh_mdtype={},nsh_np={}", n.mdtype, n.np);
    let _ = write!(s, ",nsh_spi=0x{:x},nsh_si={}", n.path_hdr >> 8, n.path_hdr & 0xff);
    for (i, c) in n.context.iter().enumerate().filter(|_| n.mdtype == 1) {
        let _ = write!(s, ",nsh_c{}=0x{c:x}", i + 1);
    }
    s.push_str(",nw_proto=0,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no");
}
