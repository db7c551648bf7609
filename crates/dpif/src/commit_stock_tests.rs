//! What a commit makes of changes against what the daemon's trace says for the same.

use super::*;
use crate::PortNo;
use crate::stock::Stock;
use crate::text::actions_text;
use flow::{EthAddr, VLAN_CFI};

type Change = fn(&mut Flow, &mut Mask);

struct Case {
    /// Packet, as trace takes it behind the port.
    packet: &'static str,
    base: fn() -> Flow,
    openflow: &'static str,
    /// What translation of these actions does.
    change: Change,
}

fn tcp() -> Flow {
    let (nw_proto, nw_ttl, tp_src, tp_dst) = (6, 64, 10, 20);
    Flow { dl_type: 0x0800, nw_proto, nw_ttl, nw_src: 1, nw_dst: 2, nw_tos: 4, tp_src, tp_dst, ..Flow::ZERO }
}

fn udp6() -> Flow {
    Flow { dl_type: 0x86dd, nw_proto: 17, nw_ttl: 9, ipv6_src: 1.into(), ipv6_dst: 2.into(), ..Flow::ZERO }
}

fn arp() -> Flow {
    Flow { dl_type: 0x0806, nw_proto: 1, nw_src: 1, nw_dst: 2, ..Flow::ZERO }
}

fn nd() -> Flow {
    Flow { dl_type: 0x86dd, nw_proto: 58, nw_ttl: 255, tp_src: 135, nd_target: 3.into(), ..Flow::ZERO }
}

fn tagged(tci: u16) -> Flow {
    let mut f = tcp();
    f.vlans[0] = Vlan { tpid: 0x8100, tci: tci | VLAN_CFI };
    f
}

fn mpls() -> Flow {
    Flow { dl_type: 0x8847, mpls_lse: [5 << 12 | 0x100 | 33, 0, 0], ..Flow::ZERO }
}

const TCP: &str = "tcp,nw_src=0.0.0.1,nw_dst=0.0.0.2,nw_tos=4,nw_ttl=64,tp_src=10,tp_dst=20";
const UDP6: &str = "udp6,ipv6_src=::1,ipv6_dst=::2,nw_ttl=9";
const ARP: &str = "arp,arp_op=1,arp_spa=0.0.0.1,arp_tpa=0.0.0.2";
const ND: &str = "icmp6,nw_ttl=255,icmpv6_type=135,icmpv6_code=0,nd_target=::3";
const MPLS: &str = "dl_type=0x8847,mpls_label=5,mpls_tc=0,mpls_ttl=33,mpls_bos=1";
const MAC: EthAddr = EthAddr([0, 0, 0, 0, 0, 9]);

const CASES: &[Case] = &[
    Case {
        packet: TCP,
        base: tcp,
        openflow: "mod_dl_src:00:00:00:00:00:09,mod_nw_dst:1.2.3.4,dec_ttl,mod_tp_dst:80",
        change: |f, wc| {
            (f.dl_src, f.nw_dst, f.nw_ttl, f.tp_dst) = (MAC, 0x01020304, 63, 80);
            (wc.dl_src, wc.nw_dst, wc.nw_ttl, wc.tp_dst) = (EthAddr::BROADCAST, !0, !0, !0);
        },
    },
    Case {
        packet: TCP,
        base: tcp,
        openflow: "set_field:0.0.5.0/0.0.255.0->ip_src,mod_nw_tos:8,set_field:20->tcp_dst",
        change: |f, wc| {
            (f.nw_src, f.nw_tos) = (0x0501, 8);
            (wc.nw_src, wc.nw_tos, wc.tp_dst) = (0xff00, 0xfc, !0);
        },
    },
    Case {
        packet: TCP,
        base: tcp,
        openflow: "set_field:1.1.1.1->ip_src,set_field:2.2.2.2->ip_dst,set_field:1->tcp_src,set_field:2->tcp_dst",
        change: |f, wc| {
            (f.nw_src, f.nw_dst, f.tp_src, f.tp_dst) = (0x01010101, 0x02020202, 1, 2);
            (wc.nw_src, wc.nw_dst, wc.tp_src, wc.tp_dst) = (!0, !0, !0, !0);
        },
    },
    Case {
        packet: TCP,
        base: tcp,
        openflow: "push_vlan:0x8100,set_field:4101->vlan_vid,set_field:3->vlan_pcp,load:7->NXM_NX_PKT_MARK[]",
        change: |f, wc| {
            f.vlans[0] = Vlan { tpid: 0x8100, tci: 0x7005 };
            (f.pkt_mark, wc.pkt_mark) = (7, !0);
        },
    },
    Case {
        packet: "tcp,nw_src=0.0.0.1,nw_dst=0.0.0.2,nw_tos=4,nw_ttl=64,tp_src=10,tp_dst=20,dl_vlan=5,dl_vlan_pcp=0",
        base: || tagged(5),
        openflow: "set_field:4102->vlan_vid,push_vlan:0x88a8,set_field:4103->vlan_vid",
        change: |f, _| f.vlans = [Vlan { tpid: 0x88a8, tci: 0x1007 }, Vlan { tpid: 0x8100, tci: 0x1006 }],
    },
    Case {
        packet: "tcp,nw_src=0.0.0.1,nw_dst=0.0.0.2,nw_tos=4,nw_ttl=64,tp_src=10,tp_dst=20,dl_vlan=5,dl_vlan_pcp=0",
        base: || tagged(5),
        openflow: "pop_vlan,set_queue:3",
        change: |f, wc| {
            f.vlans[0] = Vlan::default();
            (f.skb_priority, wc.skb_priority) = (3, !0);
        },
    },
    Case {
        packet: UDP6,
        base: udp6,
        openflow: "set_field:2001::/ffff::->ipv6_src,set_field:0x12345->ipv6_label,dec_ttl,set_field:53->udp_src",
        change: |f, wc| {
            f.ipv6_src.hi = 0x2001 << 48;
            (f.ipv6_label, f.nw_ttl, f.tp_src) = (0x12345, 8, 53);
            wc.ipv6_src.hi = 0xffff << 48;
            (wc.ipv6_label, wc.nw_ttl, wc.tp_src) = (0xfffff, !0, !0);
        },
    },
    Case {
        packet: ARP,
        base: arp,
        openflow: "set_field:2->arp_op,set_field:00:00:00:00:00:09->arp_sha,set_field:0.0.0.7->arp_tpa",
        change: |f, wc| {
            (f.nw_proto, f.arp_sha, f.nw_dst) = (2, MAC, 7);
            (wc.nw_proto, wc.arp_sha, wc.nw_dst) = (!0, EthAddr::BROADCAST, !0);
        },
    },
    Case {
        packet: ND,
        base: nd,
        openflow: "set_field:::8->nd_target,set_field:136->icmpv6_type",
        change: |f, wc| {
            (f.nd_target, f.tp_src) = (8.into(), 136);
            (wc.nd_target, wc.tp_src, wc.tp_dst) = (flow::U128::MAX, 0xff, 0xff);
        },
    },
    Case {
        packet: TCP,
        base: tcp,
        openflow: "push_mpls:0x8847,set_field:7->mpls_label",
        change: |f, _| (f.dl_type, f.mpls_lse[0]) = (0x8847, 7 << 12 | 1 << 9 | 0x100 | 64),
    },
    Case {
        packet: MPLS,
        base: mpls,
        openflow: "dec_mpls_ttl,push_mpls:0x8847,set_field:6->mpls_tc",
        change: |f, _| f.mpls_lse = [5 << 12 | 6 << 9 | 32, 5 << 12 | 0x100 | 32, 0],
    },
    Case {
        packet: MPLS,
        base: mpls,
        openflow: "set_field:9->mpls_label",
        change: |f, _| f.mpls_lse[0] = 9 << 12 | 0x100 | 33,
    },
];

#[test]
fn trace_says_the_same() {
    let Some(stock) = Stock::start("commit") else { return };
    for case in CASES {
        let actions = format!("in_port=1,actions={},output:2", case.openflow);
        // Match no more than the actions need, for what is matched is written too.
        let with = match case.packet {
            p if p.contains("dl_vlan") => "tcp,dl_vlan=5",
            ND => "icmp6,icmpv6_type=135,icmpv6_code=0",
            p => p.split(',').next().unwrap_or_default(),
        };
        let rule = format!("{with},{actions}");
        assert!(stock.ofctl(&["del-flows"]) && stock.ofctl(&["add-flow", &rule]), "{rule}");
        let trace = stock.appctl("ofproto/trace", &["br0", &format!("in_port=1,{}", case.packet)]).unwrap();
        let theirs = trace.lines().find_map(|l| l.strip_prefix("Datapath actions: ")).unwrap();
        let base = (case.base)();
        let (mut wanted, mut wc) = (base.clone(), Mask::NONE);
        (case.change)(&mut wanted, &mut wc);
        let (mut base, mut actions) = (base, Vec::new());
        let slow = commit(&wanted, &mut base, &mut wc, &mut actions, &CommitOptions::default());
        actions.push(Action::Output(PortNo(2)));
        assert_eq!(actions_text(&actions, None), theirs, "{}", case.openflow);
        let is_slow = trace.contains("not supported by datapath");
        assert_eq!(slow.contains(SlowPath::ACTION), is_slow, "{}", case.openflow);
    }
}
