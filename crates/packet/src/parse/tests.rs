use super::*;
use crate::frames;
use flow::EthAddr;
use proptest::prelude::*;

fn general(frame: &[u8], meta: &Meta<'_>) -> (Flow, Packet) {
    let mut p = Packet::from_slice(frame);
    let mut f = Flow::ZERO;
    extract_general(&mut p, meta, &mut f);
    (f, p)
}

fn offsets(p: &Packet) -> [u16; 4] {
    [p.l2_5_ofs, p.l3_ofs, p.l4_ofs, p.l2_pad]
}

#[test]
fn short_frame_has_no_fields() {
    let (f, p) = general(&[0xff; 13], &Meta::default());
    assert_eq!((f, p.l3_ofs), (Flow::ZERO, NO_OFFSET));
}

#[test]
fn length_without_snap_is_none() {
    let mut frame = vec![0; 14];
    frame[13] = 3;
    let (f, p) = general(&frame, &Meta::default());
    assert_eq!((f.dl_type, p.l3_ofs), (ethertype::NONE, 14));
}

#[test]
fn vlan_limit_stops_at_the_tag() {
    let frame = [&[0; 12][..], &[0x88, 0xa8, 0, 5, 0x81, 0, 0xe0, 6, 0x08, 6]].concat();
    let with_limit = |vlan_limit| general(&frame, &Meta { vlan_limit, ..Meta::default() }).0;
    let (one, all) = (with_limit(1), with_limit(0));
    assert_eq!((one.vlans[0].vid(), one.vlans[1], one.dl_type), (5, Vlan::default(), ethertype::VLAN));
    assert_eq!((all.vlans[1].vid(), all.vlans[1].pcp(), all.dl_type), (6, 7, ethertype::ARP));
}

#[test]
fn layer3_packet_takes_its_type_from_outside() {
    let mut p = Packet::from_slice(&[0x45, 0, 0, 20, 0, 0, 0, 0, 7, 47, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    p.packet_type = crate::proto::packet_type::IPV4;
    let f = flow_of(&mut p, &Meta::default());
    assert_eq!((f.dl_type, f.nw_src, f.nw_ttl, p.l3_ofs), (0x0800, 0x01020304, 7, 0));
    assert_eq!(f.dl_dst, EthAddr::ZERO);
}

#[test]
fn connection_tuple_needs_state_and_family() {
    let with_ports = |dl_type: u16| {
        let is_it = |f: &Flow| f.dl_type == dl_type && f.nw_proto == 17 && f.tp_src != 0;
        (0..).map(frames::frame).find(|f| is_it(&general(f, &Meta::default()).0)).unwrap()
    };
    let (v4, v6) = (with_ports(ethertype::IPV4), with_ports(ethertype::IPV6));
    let tuple = CtTuple::V4 { src: 1, dst: 2, proto: 17, tp_src: 3, tp_dst: 4 };
    let mut ct = CtMeta { state: 0x21, zone: 9, mark: 8, tuple, ..CtMeta::default() };
    let (f, _) = general(&v4, &Meta { ct: Some(&ct), ..Meta::default() });
    assert_eq!((f.ct_state, f.ct_zone, f.ct_mark, f.ct_nw_src, f.ct_tp_dst), (0x21, 9, 8, 1, 4));
    assert_eq!(CtMeta::of_flow(&f), ct);
    let (f, _) = general(&v6, &Meta { ct: Some(&ct), ..Meta::default() });
    assert_eq!((f.ct_state, f.ct_nw_proto, f.ct_nw_src, f.ct_tp_dst), (0x21, 0, 0, 0));
    ct.state = 0;
    let (f, _) = general(&v4, &Meta { ct: Some(&ct), ..Meta::default() });
    assert_eq!((f.ct_zone, f.ct_nw_proto), (0, 0));
}

#[test]
fn a_used_key_is_overwritten() {
    let tunnel = Tunnel { id: 5, dst: 6, metadata_present: 4, metadata: [1; 256], ..Tunnel::default() };
    let mut flow = Flow::ZERO;
    for seed in 0..50 {
        let mut p = Packet::from_slice(&frames::frame(seed));
        let meta = Meta { tunnel: (seed % 2 == 0).then_some(&tunnel), recirc_id: 7, ..Meta::default() };
        extract(&mut p, &meta, &mut flow);
        let fresh = flow_of(&mut p, &meta);
        assert_eq!(flow, fresh);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn fast_equals_general(seed: u64, limit in 0u8..4, state in 0u32..2, in_port: u32) {
        let frame = frames::frame(seed);
        let ct = CtMeta {
            state,
            tuple: CtTuple::V4 { src: 1, dst: 2, proto: 6, tp_src: 3, tp_dst: 4 },
            ..CtMeta::default()
        };
        let meta = Meta { vlan_limit: limit, in_port, ct: Some(&ct), ..Meta::default() };
        let (want, slow) = general(&frame, &meta);
        let mut p = Packet::from_slice(&frame);
        let mut got = Flow::ZERO;
        if fast::extract(&mut p, &meta, &mut got) {
            prop_assert_eq!(offsets(&p), offsets(&slow));
            prop_assert_eq!(got, want);
        } else {
            prop_assert_eq!(got, Flow::ZERO);
        }
    }

    #[test]
    fn any_bytes_parse(frame in proptest::collection::vec(any::<u8>(), 0..120), packet_type in any::<u32>()) {
        let mut p = Packet::from_slice(&frame);
        p.packet_type = packet_type;
        flow_of(&mut p, &Meta::default());
        let len = frame.len() as u16;
        prop_assert!(offsets(&p)[..3].iter().all(|o| *o <= len || *o == NO_OFFSET));
    }
}
