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
