//! What the set, push and pop actions make of packets against what the daemon makes of them, byte for byte.

use crate::attr::Attr;
use crate::frames::{self, Rng};
use crate::stock::Stock;
use crate::{Action, SetKey};
use flow::{EthAddr, Flow, Mask, NW_FRAG_LATER};
use packet::{Meta, Packet, edit, pcap};

/// An OpenFlow action, and the same for us.
type Step = (String, Action);

fn set(attr: Attr, change: impl Fn(&mut Flow, &mut Mask)) -> Action {
    let (mut key, mut mask) = (Flow::ZERO, Mask::NONE);
    change(&mut key, &mut mask);
    Action::Set(SetKey::of_flows(attr, &key, &mask).unwrap())
}

fn ipv4_steps(r: &mut Rng) -> Vec<Step> {
    let (src, dst, ttl) = (r.next() as u32, r.next() as u32, r.next() as u8);
    let v4 = |a: u32| std::net::Ipv4Addr::from(a);
    vec![
        (
            format!("set_field:{}->ip_src", v4(src)),
            set(Attr::Ipv4, |k, m| (k.nw_src, m.nw_src) = (src, u32::MAX)),
        ),
        (
            format!("set_field:{}->ip_dst", v4(dst)),
            set(Attr::Ipv4, |k, m| (k.nw_dst, m.nw_dst) = (dst, u32::MAX)),
        ),
        (format!("set_field:{ttl}->nw_ttl"), set(Attr::Ipv4, |k, m| (k.nw_ttl, m.nw_ttl) = (ttl, u8::MAX))),
        ("mod_nw_tos:32".into(), set(Attr::Ipv4, |k, m| (k.nw_tos, m.nw_tos) = (32, 0xfc))),
    ]
}

fn ipv6_steps(r: &mut Rng) -> Vec<Step> {
    let (src, dst) = (u128::from(r.next()) << 64 | 1, u128::from(r.next()) << 64 | 2);
    let v6 = |a: u128| std::net::Ipv6Addr::from(a);
    vec![
        (
            format!("set_field:{}->ipv6_src", v6(src)),
            set(Attr::Ipv6, |k, m| (k.ipv6_src, m.ipv6_src) = (src.into(), flow::U128::MAX)),
        ),
        (
            format!("set_field:{}->ipv6_dst", v6(dst)),
            set(Attr::Ipv6, |k, m| (k.ipv6_dst, m.ipv6_dst) = (dst.into(), flow::U128::MAX)),
        ),
        (
            "set_field:0x12345->ipv6_label".into(),
            set(Attr::Ipv6, |k, m| (k.ipv6_label, m.ipv6_label) = (0x12345, 0xfffff)),
        ),
        ("set_field:7->nw_ttl".into(), set(Attr::Ipv6, |k, m| (k.nw_ttl, m.nw_ttl) = (7, u8::MAX))),
    ]
}

fn port_steps(r: &mut Rng, f: &Flow) -> Vec<Step> {
    let (name, attr) = match f.nw_proto {
        6 => ("tcp", Attr::Tcp),
        17 => ("udp", Attr::Udp),
        132 => ("sctp", Attr::Sctp),
        _ => return Vec::new(),
    };
    let (src, dst) = (r.next() as u16, r.next() as u16);
    vec![
        (format!("set_field:{src}->{name}_src"), set(attr, |k, m| (k.tp_src, m.tp_src) = (src, u16::MAX))),
        (format!("set_field:{dst}->{name}_dst"), set(attr, |k, m| (k.tp_dst, m.tp_dst) = (dst, u16::MAX))),
    ]
}

fn icmp_steps(f: &Flow) -> Vec<Step> {
    let (name, attr) = match (f.dl_type, f.nw_proto) {
        (0x0800, 1) => ("icmp", Attr::Icmp),
        (0x86dd, 58) => ("icmpv6", Attr::Icmpv6),
        _ => return Vec::new(),
    };
    if crate::key_attrs::is_nd(f) {
        let target = set(Attr::Nd, |k, m| (k.nd_target, m.nd_target) = (9.into(), flow::U128::MAX));
        let mac = EthAddr([2, 0, 0, 0, 0, 9]);
        let sll = set(Attr::Nd, |k, m| (k.arp_sha, m.arp_sha) = (mac, EthAddr::BROADCAST));
        let tll = set(Attr::Nd, |k, m| (k.arp_tha, m.arp_tha) = (mac, EthAddr::BROADCAST));
        let mut steps = vec![("set_field:::9->nd_target".into(), target)];
        steps.push(match f.tp_src {
            135 => (format!("set_field:{mac}->nd_sll"), sll),
            _ => (format!("set_field:{mac}->nd_tll"), tll),
        });
        return steps;
    }
    let step = set(attr, |k, m| {
        (k.tp_src, k.tp_dst) = (3, f.tp_dst);
        (m.tp_src, m.tp_dst) = (0xff, 0xff);
    });
    vec![(format!("set_field:3->{name}_type"), step)]
}

fn arp_steps() -> Vec<Step> {
    let op = set(Attr::Arp, |k, m| (k.nw_proto, m.nw_proto) = (2, u8::MAX));
    let spa = set(Attr::Arp, |k, m| (k.nw_src, m.nw_src) = (0x01020304, u32::MAX));
    let mac = EthAddr([2, 0, 0, 0, 0, 1]);
    let tha = set(Attr::Arp, |k, m| (k.arp_tha, m.arp_tha) = (mac, EthAddr::BROADCAST));
    vec![
        ("set_field:2->arp_op".into(), op),
        ("set_field:1.2.3.4->arp_spa".into(), spa),
        (format!("set_field:{mac}->arp_tha"), tha),
    ]
}

fn ethernet_steps(f: &Flow) -> Vec<Step> {
    let mac = EthAddr([2, 0, 0, 0, 0, 5]);
    let src = set(Attr::Ethernet, |k, m| (k.dl_src, m.dl_src) = (mac, EthAddr::BROADCAST));
    let mut steps = vec![(format!("set_field:{mac}->eth_src"), src)];
    if f.vlans[0].is_present() {
        steps.push(("pop_vlan".into(), Action::PopVlan));
    } else {
        steps.push(("push_vlan:0x88a8".into(), Action::PushVlan { tpid: 0x88a8, tci: 0x1000 }));
    }
    steps
}

fn steps(r: &mut Rng, p: &Packet, f: &Flow) -> Vec<Step> {
    let has_ip = p.l4_ofs != packet::NO_OFFSET && f.nw_proto != 0;
    let mut all = ethernet_steps(f);
    match f.dl_type {
        0x0800 if has_ip => all.extend(ipv4_steps(r)),
        0x86dd if has_ip => all.extend(ipv6_steps(r)),
        // The translation takes an opcode of 0 for no ARP.
        0x0806 if f.nw_proto != 0 => all.extend(arp_steps()),
        _ => {}
    }
    if has_ip && f.nw_frag & NW_FRAG_LATER == 0 && f.tp_src != 0 {
        all.extend(port_steps(r, f));
        all.extend(icmp_steps(f));
    }
    let n = 1 + r.below(3) as usize;
    while all.len() > n {
        all.swap_remove(r.below(all.len() as u64) as usize);
    }
    all
}

fn run(p: &mut Packet, action: &Action) {
    match action {
        Action::Set(s) => s.apply(p),
        Action::PopVlan => edit::pop_vlan(p),
        Action::PushVlan { tpid, tci } => edit::push_vlan(p, *tpid, *tci),
        other => panic!("not made here: {other:?}"),
    }
}

/// Where the daemon gets it wrong: it updates checksums in fragments that hold none (RFC 791), forgets them
/// behind a fragment header of a whole packet and behind routing headers with segments left.
fn daemon_errs(p: &Packet, f: &Flow, steps: &[Step]) -> bool {
    let writes_ip = steps.iter().any(|(_, a)| match a {
        Action::Set(s) => matches!(s.attr(), Attr::Ipv4 | Attr::Ipv6),
        _ => false,
    });
    let first = p.data().get(usize::from(p.l3_ofs) + 6).copied().unwrap_or(0);
    let has_extensions = f.dl_type == 0x86dd && packet::proto::ip_proto::is_ipv6_extension(first);
    writes_ip && (f.nw_frag & NW_FRAG_LATER != 0 || has_extensions)
}

/// Frames asked about; each is a run of `ovs-ofctl`.
const FRAMES: usize = 150;

#[test]
fn packets_come_out_the_same() {
    let Some(stock) = Stock::start("edit") else { return };
    let file = stock.capture("p2");
    let mut wanted = Vec::new();
    for seed in 0.. {
        if wanted.len() == FRAMES {
            break;
        }
        let frame = frames::frame(seed);
        let mut p = Packet::from_slice(&frame);
        let f = packet::parse::flow_of(&mut p, &Meta::default());
        let steps = steps(&mut Rng::new(!seed), &p, &f);
        if p.l3_ofs == packet::NO_OFFSET || daemon_errs(&p, &f, &steps) {
            continue;
        }
        let openflow: Vec<_> = steps.iter().map(|(text, _)| text.as_str()).collect();
        let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
        let out = format!("in_port=1,packet={hex},actions={},output:2", openflow.join(","));
        assert!(stock.ofctl(&["packet-out", &out]), "{out}");
        for (_, action) in &steps {
            run(&mut p, action);
        }
        wanted.push((out, p.data().to_vec()));
    }
    let bytes = std::fs::read(file).unwrap();
    let got: Vec<_> = pcap::Reader::new(&bytes).unwrap().map(|r| r.unwrap().frame.to_vec()).collect();
    assert_eq!(got.len(), wanted.len());
    for (got, (what, want)) in got.iter().zip(&wanted) {
        assert_eq!(got, want, "{what}");
    }
}
