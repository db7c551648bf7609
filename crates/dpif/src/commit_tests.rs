use super::*;
use crate::frames::{self, Rng};
use crate::text::actions_text;
use flow::{EthAddr, VLAN_CFI};
use packet::{Meta, Packet, edit};
use proptest::prelude::*;

fn parsed(frame: &[u8]) -> Flow {
    packet::parse::flow_of(&mut Packet::from_slice(frame), &Meta::default())
}

/// What translation does: changes a field and unwildcards it.
fn change(r: &mut Rng, f: &mut Flow, wc: &mut Mask) {
    match r.below(8) {
        0 => {
            f.dl_src = EthAddr::from_u64(r.next());
            wc.dl_src = EthAddr::BROADCAST;
        }
        1 if f.nw_proto != 0 && f.dl_type == 0x0800 => {
            f.nw_dst = r.next() as u32;
            wc.nw_dst = u32::MAX;
            f.nw_ttl = f.nw_ttl.wrapping_sub(1);
            wc.nw_ttl = u8::MAX;
        }
        2 if f.nw_proto != 0 && f.dl_type == 0x86dd => {
            f.ipv6_src.lo ^= 0xffff;
            wc.ipv6_src.lo |= 0xffff;
            f.nw_tos ^= 0xfc;
            wc.nw_tos |= 0xfc;
        }
        3 if matches!(f.nw_proto, 6 | 17 | 132) && f.tp_src != 0 => {
            f.tp_dst = r.next() as u16;
            wc.tp_dst = u16::MAX;
        }
        4 => {
            f.vlans = [Vlan { tpid: 0x8100, tci: VLAN_CFI | r.below(4096) as u16 }, f.vlans[0]];
            (wc.vlans[0].tpid, wc.vlans[0].tci) = (u16::MAX, u16::MAX);
        }
        5 => {
            f.vlans = [f.vlans[1], Vlan::default()];
            (wc.vlans[0].tpid, wc.vlans[0].tci) = (u16::MAX, u16::MAX);
        }
        6 if f.nw_proto != 0 && matches!(f.dl_type, 0x0806) => {
            (f.nw_proto, f.arp_sha) = (2, EthAddr([7; 6]));
            (wc.nw_proto, wc.arp_sha) = (0xff, EthAddr::BROADCAST);
        }
        7 if matches!(f.dl_type, 0x8847 | 0x8848) && f.mpls_lse[0] != 0 => {
            f.mpls_lse[0] ^= 0x7000;
            wc.mpls_lse[0] = u32::MAX;
        }
        _ => {}
    }
}

fn run(p: &mut Packet, actions: &[Action]) {
    for a in actions {
        match a {
            Action::Set(s) => s.apply(p),
            Action::PushVlan { tpid, tci } => edit::push_vlan(p, *tpid, *tci),
            Action::PopVlan => edit::pop_vlan(p),
            Action::PushMpls { lse, ethertype } => edit::push_mpls(p, *ethertype, *lse),
            Action::PopMpls { ethertype } => edit::pop_mpls(p, *ethertype),
            other => panic!("not made here: {other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(4000) })]

    /// The actions do to the packet what was done to its key.
    #[test]
    fn packet_becomes_what_is_wanted(seed: u64, whole_headers: bool) {
        let mut p = Packet::from_slice(&frames::frame(seed));
        let original = packet::parse::flow_of(&mut p, &Meta::default());
        prop_assume!(p.l3_ofs != packet::NO_OFFSET && original.dl_type >= 0x600);
        prop_assume!(!matches!(original.dl_type, 0x8100 | 0x88a8));
        // A frame whose fields parsing had to leave out has no header to write to.
        prop_assume!(!original.is_ip() || original.nw_proto != 0 && p.l4_ofs != packet::NO_OFFSET);
        let r = &mut Rng::new(!seed);
        let (mut wanted, mut wc) = (original.clone(), Mask::NONE);
        for _ in 0..r.below(4) {
            change(r, &mut wanted, &mut wc);
        }
        let (mut base, mut actions, before) = (original.clone(), Vec::new(), wc.clone());
        let options = CommitOptions { whole_headers, ..CommitOptions::default() };
        let slow = commit(&wanted, &mut base, &mut wc, &mut actions, &options);
        prop_assert!(before.is_subset_of(&wc));
        prop_assert_eq!(&base, &wanted);
        run(&mut p, &actions);
        let got = packet::parse::flow_of(&mut p, &Meta::default());
        prop_assert_eq!(got.words(), wanted.words(), "{}", actions_text(&actions, None));
        let writes_arp = actions.iter().any(|a| matches!(a, Action::Set(SetKey::Arp(_))));
        prop_assert_eq!(slow, slow_if(writes_arp));
        // Nothing is left to do.
        let n = actions.len();
        commit(&wanted, &mut base, &mut wc, &mut actions, &options);
        prop_assert_eq!(actions.len(), n);
    }
}

fn committed(base: &Flow, wanted: &Flow, wc: &Mask) -> (String, SlowPath) {
    let (mut actions, mut base, mut wc) = (Vec::new(), base.clone(), wc.clone());
    let slow = commit(wanted, &mut base, &mut wc, &mut actions, &CommitOptions::default());
    (actions_text(&actions, None), slow)
}

fn ipv4() -> Flow {
    Flow { dl_type: 0x0800, nw_proto: 1, nw_ttl: 64, tp_src: 8, ..Flow::ZERO }
}

#[test]
fn only_what_differs_is_written() {
    let base = ipv4();
    let wanted = Flow { nw_ttl: 63, nw_dst: 0x01020304, ..ipv4() };
    assert_eq!(committed(&base, &base, &Mask::EXACT), ("drop".into(), SlowPath::empty()));
    assert_eq!(committed(&base, &wanted, &Mask::EXACT).0, "set(ipv4(dst=1.2.3.4,ttl=63))");
    let mut wc = Mask::NONE;
    (wc.nw_dst, wc.nw_ttl) = (0xff, 0xff);
    let wanted = Flow { nw_ttl: 63, nw_dst: 4, ..ipv4() };
    assert_eq!(committed(&base, &wanted, &wc).0, "set(ipv4(dst=0.0.0.4/0.0.0.255,ttl=63))");
}

#[test]
fn icmp_goes_out_whole_and_slow() {
    let wanted = Flow { tp_src: 0, ..ipv4() };
    assert_eq!(
        committed(&ipv4(), &wanted, &Mask::NONE),
        ("set(icmp(type=0,code=0))".into(), SlowPath::ACTION)
    );
}

#[test]
fn a_tunnel_keeps_its_ecn() {
    let mut base = ipv4();
    base.tunnel.dst = 1;
    let wanted = Flow { nw_tos: 0xb8, ..base.clone() };
    assert_eq!(committed(&base, &wanted, &Mask::EXACT).0, "set(ipv4(tos=0xb8/0xfc))");
    let wanted = Flow { nw_tos: 0xb9, ..base.clone() };
    assert_eq!(committed(&base, &wanted, &Mask::EXACT).0, "set(ipv4(tos=0xb9))");
}

#[test]
fn labels_come_off_and_go_on() {
    let labels = |l: [u32; 3]| Flow { dl_type: 0x8847, mpls_lse: l, ..Flow::ZERO };
    let (a, b) = (0x1040, 0x2140);
    let text = |from: &Flow, to: &Flow| committed(from, to, &Mask::EXACT).0;
    let la = "label=1,tc=0,ttl=64,bos=0";
    assert_eq!(text(&labels([b, 0, 0]), &labels([a, b, 0])), format!("push_mpls({la},eth_type=0x8847)"));
    assert_eq!(text(&labels([a, b, 0]), &labels([b, 0, 0])), "pop_mpls(eth_type=0x8847)");
    assert_eq!(text(&labels([0x9040, b, 0]), &labels([a, b, 0])), format!("set(mpls({la}))"));
    let ip = Flow { nw_ttl: 3, ..ipv4() };
    let mut under = ip.clone();
    (under.dl_type, under.mpls_lse) = (0x8847, [a, b, 0]);
    let wanted = Flow { nw_ttl: 2, ..ip };
    assert_eq!(text(&under, &wanted), "pop_mpls(eth_type=0x8847),pop_mpls(eth_type=0x800),set(ipv4(ttl=2))");
}

#[test]
fn packet_types_change() {
    let eth = Flow { dl_src: EthAddr([1; 6]), dl_dst: EthAddr([2; 6]), ..ipv4() };
    let ip = Flow { packet_type: packet_type::IPV4, ..ipv4() };
    assert_eq!(committed(&eth, &ip, &Mask::EXACT).0, "pop_eth");
    let encap = CommitOptions { encap: true, nsh_md2: &[1, 2, 3, 4], ..CommitOptions::default() };
    let push = |base: &Flow, wanted: &Flow| {
        let (mut actions, mut base, mut wc) = (Vec::new(), base.clone(), Mask::NONE);
        commit(wanted, &mut base, &mut wc, &mut actions, &encap);
        assert_eq!((base.packet_type, wc.packet_type), (wanted.packet_type, u32::MAX));
        actions_text(&actions, None)
    };
    assert_eq!(push(&ip, &eth), "push_eth(src=01:01:01:01:01:01,dst=02:02:02:02:02:02)");
    let nsh = Nsh { mdtype: 2, np: 3, ttl: 63, path_hdr: 0x1_ff, ..Nsh::default() };
    let wanted = Flow { packet_type: packet_type::NSH, dl_type: 0x894f, nsh, ..Flow::ZERO };
    assert_eq!(push(&eth, &wanted), "push_nsh(flags=0,ttl=63,mdtype=2,np=3,spi=0x1,si=255,md2=0x1020304)");
    let decap = Flow { packet_type: PT_ETH, dl_type: 0, ..Flow::ZERO };
    assert_eq!(committed(&wanted, &decap, &Mask::EXACT).0, "pop_nsh()");
}

#[test]
fn tunnel_is_set_once_with_its_own_options() {
    let mut wanted = Flow::ZERO;
    (wanted.tunnel.dst, wanted.tunnel.ttl, wanted.tunnel.gbp_id) = (0x0a000001, 64, 7);
    let (mut base, mut actions) = (Flow::ZERO, Vec::new());
    commit_tunnel(&wanted, &mut base, &mut actions, Some("geneve"));
    commit_tunnel(&wanted, &mut base, &mut actions, Some("vxlan"));
    assert_eq!(actions_text(&actions, None), "set(tunnel(dst=10.0.0.1,ttl=64,flags(0)))");
    let parsed = parsed(&frames::frame(1));
    commit_tunnel(&parsed, &mut base, &mut actions, None);
    assert_eq!(actions.len(), 1);
}
