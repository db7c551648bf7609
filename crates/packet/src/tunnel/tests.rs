use super::*;
use crate::parse::{Meta, flow_of};
use crate::{HEADROOM, Packet};
use flow::Tunnel;
use proptest::prelude::*;

/// A VXLAN packet: Ethernet, IPv4, UDP, VXLAN, frame.
fn vxlan_packet() -> Vec<u8> {
    let mut b = vec![0xaa; 12];
    b.extend([8, 0, 0x45, 0, 0, 78, 0, 1, 0, 0, 64, 17, 0x73, 0xe9, 1, 1, 2, 0x5c, 1, 1, 2, 0x58]);
    b.extend([0xc8, 0x53, 0x12, 0xb5, 0, 58, 0, 0]);
    b.extend([8, 0, 0, 0, 0, 0, 0x7b, 0]);
    b.extend([0x11; 42]);
    b
}

fn popped(bytes: &[u8], kind: TunnelKind) -> Result<(Packet, Tunnel), PopError> {
    let (mut p, mut t) = (Packet::from_slice(bytes), Tunnel::default());
    flow_of(&mut p, &Meta::default());
    pop(&mut p, kind, &mut t).map(|()| (p, t))
}

#[test]
fn vxlan_is_taken_off() {
    let (p, t) = popped(&vxlan_packet(), TunnelKind::Vxlan).expect("good");
    assert_eq!((p.data(), p.headroom()), (&[0x11; 42][..], HEADROOM + 50));
    assert_eq!((t.id, t.src, t.dst, t.ttl, t.tp_dst), (0x7b, 0x0101_025c, 0x0101_0258, 64, 4789));
}

#[test]
fn what_is_wrong_is_said() {
    let good = vxlan_packet();
    let with = |at: usize, value: u8| {
        let mut bad = good.clone();
        bad[at] = value;
        popped(&bad, TunnelKind::Vxlan).map(|_| ()).expect_err("bad")
    };
    assert_eq!(with(24, 1), PopError::Checksum, "the IP header's");
    assert_eq!(with(40, 1), PopError::Checksum, "UDP's is no longer absent");
    assert_eq!(with(42, 9), PopError::Version, "flags");
    assert_eq!(popped(&good[..46], TunnelKind::Vxlan).map(|_| ()), Err(PopError::NoHeader));
    assert_eq!(popped(&good, TunnelKind::Geneve).map(|_| ()), Err(PopError::Protocol));
}

#[test]
fn source_ports_stay_in_their_range() {
    assert_eq!(source_port(0, (32768, 61000)), 32768);
    assert_eq!(source_port(u32::MAX, (32768, 61000)), 60999);
    assert_eq!(source_port(u32::MAX, (7, 7)), 7);
    assert_eq!(source_port(5, (9, 3)), 9);
}

proptest! {
    #[test]
    fn pop_is_total(which in 0usize..7, mut bytes in proptest::collection::vec(any::<u8>(), 0..160), v6: bool) {
        // Give it a chance to get past the outer headers.
        let head: &[u8] = if v6 { &[0x86, 0xdd, 0x60] } else { &[8, 0, 0x45] };
        for (b, h) in bytes.iter_mut().skip(12).zip(head) {
            *b = *h;
        }
        let kind = TunnelKind::ALL[which];
        if let Some(b) = bytes.get_mut(if v6 { 20 } else { 23 }) {
            *b = kind.ip_proto();
        }
        crate::fuzz::tunnel(kind, &bytes);
    }

    #[test]
    fn push_is_total(which in 0usize..7, header in proptest::collection::vec(any::<u8>(), 0..120)) {
        let mut p = Packet::from_slice(&[0x22; 60]);
        let kind = TunnelKind::ALL[which];
        let pushed = push(&mut p, &header, kind, &PushContext::default());
        prop_assert_eq!(p.len(), 60 + if pushed { header.len() } else { 0 });
    }
}

/// A header of Geneve or VXLAN that waits for lengths.
fn waiting_header(is_v6: bool, kind: TunnelKind, has_sum: bool, vni: u8, options: &[[u8; 4]]) -> Vec<u8> {
    let mut h = vxlan_packet()[..12].to_vec();
    if is_v6 {
        h.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17, 64]);
        h.extend((0..32).map(|n| n * 7 + vni));
    } else {
        h.extend([8, 0, 0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 1, 1, 2, 0x5c, 1, 1, 2, 0x58]);
        let sum = crate::checksum::checksum(&h[14..34]);
        h[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    h.extend(if kind == TunnelKind::Vxlan { [0, 0, 0x12, 0xb5] } else { [0, 0, 0x17, 0xc1] });
    h.extend([0, 0, 0, u8::from(has_sum)]);
    if kind == TunnelKind::Vxlan {
        h.extend([8, 0, 0, 0, 0, 0, vni, 0]);
    } else {
        h.extend([options.len() as u8, 0, 0x65, 0x58, 0, 0, vni, 0]);
        h.extend(options.concat());
    }
    h
}

fn header_parts() -> impl Strategy<Value = (bool, TunnelKind, bool, u8, Vec<[u8; 4]>)> {
    let kind = prop_oneof![1 => Just(TunnelKind::Vxlan), 3 => Just(TunnelKind::Geneve)];
    (any::<bool>(), kind, any::<bool>(), 1u8..4, proptest::collection::vec(any::<[u8; 4]>(), 0..8))
}

proptest! {
    /// Against [`push`].
    #[test]
    fn a_template_writes_what_push_does(
        (is_v6, kind, has_sum, vni, options) in header_parts(),
        payload in proptest::collection::vec(any::<u8>(), 14..200), source_port: u16,
    ) {
        let header = waiting_header(is_v6, kind, has_sum, vni, &options);
        let mut slow = Packet::from_slice(&payload);
        let cx = PushContext { source_port, ..PushContext::default() };
        assert!(push(&mut slow, &header, kind, &cx));
        let template = Template::new(&header).unwrap();
        prop_assert_eq!(template.len(), header.len());
        let mut shorter = [vec![0xdd; header.len()], payload[1..].to_vec()].concat();
        let mut frame = [vec![0xee; header.len()], payload].concat();
        let mut frames: [&mut [u8]; crate::BATCH_LEN] = std::array::from_fn(|_| &mut [][..]);
        (frames[3], frames[31]) = (&mut shorter, &mut frame);
        let bytes = template.write_all(&mut frames, 1 << 3 | 1 << 31, (source_port, source_port));
        prop_assert_eq!(bytes as usize, 2 * slow.len() - 1);
        prop_assert_eq!(frame, slow.data());
    }

    #[test]
    fn a_template_is_total(
        header in proptest::collection::vec(any::<u8>(), 0..120), v6: bool, frame in 0usize..300,
    ) {
        let mut header = header;
        let head: &[u8] = if v6 { &[0x86, 0xdd, 0x60] } else { &[8, 0, 0x45] };
        header.iter_mut().skip(12).zip(head).for_each(|(b, h)| *b = *h);
        if let Some(b) = header.get_mut(if v6 { 20 } else { 23 }) {
            *b = 17;
        }
        if let Some(template) = Template::new(&header) {
            let mut frame = vec![0; frame];
            let mut frames: [&mut [u8]; crate::BATCH_LEN] = std::array::from_fn(|_| &mut [][..]);
            frames[0] = &mut frame;
            template.write_all(&mut frames, 1, (5, 9));
        }
    }

    /// Against [`pop`]: what one packet's header says is right of another's.
    #[test]
    fn a_known_header_is_taken_off_as_any_other(
        (_, kind, has_sum, vni, options) in header_parts(), other in header_parts(), is_other: bool,
        sources: (u16, u16), lens in (14usize..90, 14usize..90), trusted: bool,
        damage in proptest::option::of((0usize..120, any::<u8>())), cut in prop_oneof![4 => Just(0usize), 1 => 0usize..60],
    ) {
        let make = |header: &[u8], source_port, len| {
            let mut p = Packet::from_slice(&vec![0x22; len]);
            assert!(push(&mut p, header, kind, &PushContext { source_port, ..PushContext::default() }));
            p.data().to_vec()
        };
        let header = waiting_header(false, kind, has_sum, vni, &options);
        let first = make(&header, sources.0, lens.0);
        let (p, said) = popped(&first, kind).unwrap();
        let outer = Outer::new(&first, kind, p.packet_type, &said).unwrap();
        prop_assert_eq!(outer.len(), header.len());
        let other = waiting_header(false, kind, other.2, other.3, &other.4);
        let mut second = make(if is_other { &other } else { &header }, sources.1, lens.1);
        let len = second.len();
        second.truncate(len - cut.min(len));
        if let Some((at, value)) = damage.filter(|_| !second.is_empty()) {
            let at = at % second.len();
            second[at] = value;
        }
        let (mut packet, mut own) = (Packet::from_slice(&second), Tunnel::default());
        let key = flow_of(&mut packet, &Meta::default());
        if trusted {
            packet.offload.checksum = crate::Checksum::Good;
        }
        // Whoever asks has looked at this much.
        let is_udp = key.dl_type == 0x0800 && key.nw_proto == 17 && key.nw_frag == 0 && packet.l4_ofs == 34;
        let own = pop(&mut packet, kind, &mut own).map(|()| own);
        if is_udp && outer.is_of(&second, trusted) {
            prop_assert_eq!(Outer::hash(&second, kind), Outer::hash(&first, kind));
            let own = own.expect("good");
            prop_assert_eq!(packet.data(), &second[outer.len()..]);
            prop_assert_eq!(&Tunnel { tp_src: 0, ..own }, outer.tunnel());
        } else {
            prop_assert!(is_other || damage.is_some() || cut > 0);
        }
    }

    #[test]
    fn packets_of_the_common_shape_have_the_hash_of_all(tcp: bool, ends: (u32, u32), ports: (u16, u16)) {
        let mut f = vxlan_packet();
        f[23] = if tcp { 6 } else { 17 };
        f[26..30].copy_from_slice(&ends.0.to_be_bytes());
        f[30..34].copy_from_slice(&ends.1.to_be_bytes());
        f[34..36].copy_from_slice(&ports.0.to_be_bytes());
        f[36..38].copy_from_slice(&ports.1.to_be_bytes());
        f[46] = 0x50;
        let mut p = Packet::from_slice(&f);
        flow_of(&mut p, &Meta::default());
        prop_assert_eq!(hash_of_shape(&f), flow_hash(&p));
    }
}
