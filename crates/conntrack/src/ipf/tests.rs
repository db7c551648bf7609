use super::*;
use crate::tests::{A, B, parsed, udp};
use proptest::prelude::*;

#[derive(Clone)]
struct Item(Packet, PacketCt);

impl Carrier for Item {
    fn packet(&self) -> &Packet {
        &self.0
    }
    fn packet_mut(&mut self) -> &mut Packet {
        &mut self.0
    }
    fn recirc_id(&self) -> u32 {
        0
    }
    fn set_ct(&mut self, ct: &PacketCt) {
        self.1 = *ct;
    }
}

/// A UDP packet of `len` payload bytes.
fn whole(len: usize) -> Packet {
    let mut l4 = vec![0, 1, 0, 2];
    l4.extend((8 + len as u16).to_be_bytes());
    l4.extend([0, 0]);
    l4.extend((0..len).map(|i| i as u8));
    crate::tests::ipv4(A, B, 17, &l4)
}

/// Fragments with payloads of `unit` bytes.
fn fragments(p: &Packet, unit: usize) -> Vec<Item> {
    let payload = &p.data()[34..];
    let n = payload.len().div_ceil(unit);
    let cut = |(i, part): (usize, &[u8])| {
        let mut b = p.data()[..34].to_vec();
        let flags = (i * unit / 8) as u16 | if i + 1 < n { 0x2000 } else { 0 };
        b[16..18].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
        b[20..22].copy_from_slice(&flags.to_be_bytes());
        b[24..26].fill(0);
        let c = finish(sum(&b[14..34]));
        b[24..26].copy_from_slice(&c.to_be_bytes());
        b.extend(part);
        Item(parsed(&b), PacketCt::default())
    };
    payload.chunks(unit).enumerate().map(cut).collect()
}

fn ipf() -> Ipf<Item> {
    let ipf = Ipf::default();
    assert!(ipf.set_min_frag(Family::V4, 400));
    ipf
}

proptest! {
    #[test]
    fn any_order_gives_the_packet_and_its_fragments_back(
        len in 1000..4000usize,
        unit in 50..100usize,
        seed in any::<u64>(),
    ) {
        let (ipf, p) = (ipf(), whole(len));
        let sent = fragments(&p, unit * 8);
        let mut order: Vec<usize> = (0..sent.len()).collect();
        order.sort_by_key(|i| flow::hash::mix(seed, *i as u64));
        for (n, i) in order.iter().enumerate() {
            match ipf.offer(sent[*i].clone(), Family::V4, 0, 0) {
                Offered::Held => prop_assert!(n + 1 < order.len()),
                Offered::Whole(w) => {
                    prop_assert_eq!(n + 1, order.len());
                    prop_assert_eq!(&w.carrier.0.data()[34..], &p.data()[34..]);
                    let back = ipf.take_apart(w, &PacketCt::default());
                    for (a, b) in back.iter().zip(&sent) {
                        prop_assert_eq!(a.0.data(), b.0.data());
                    }
                }
                _ => prop_assert!(false, "refused"),
            }
        }
        prop_assert_eq!(ipf.nfrag().1, 0);
        prop_assert!(ipf.is_idle());
    }

    #[test]
    fn any_bytes_are_dealt_with(bytes in prop::collection::vec(any::<u8>(), 0..120), v6 in any::<bool>()) {
        let mut frame = vec![0; 12];
        frame.extend(if v6 { [0x86, 0xdd] } else { [8, 0] });
        frame.extend(bytes);
        let family = if v6 { Family::V6 } else { Family::V4 };
        ipf().offer(Item(parsed(&frame), PacketCt::default()), family, 0, 0);
    }
}

#[test]
fn fragments_that_do_not_fit() {
    let ipf = ipf();
    let parts = fragments(&whole(2000), 800);
    assert!(matches!(ipf.offer(parts[0].clone(), Family::V4, 0, 0), Offered::Held));
    assert!(matches!(ipf.offer(parts[0].clone(), Family::V4, 0, 0), Offered::Invalid(_)));
    let small = fragments(&whole(2000), 80);
    assert!(matches!(ipf.offer(small[0].clone(), Family::V4, 0, 0), Offered::Invalid(_)));
    let s = ipf.status(Family::V4);
    assert_eq!((s.accepted, s.overlap, s.too_small), (1, 1, 1));
    let not = Item(udp((A, 1), (B, 2)), PacketCt::default());
    assert!(matches!(ipf.offer(not, Family::V4, 0, 0), Offered::Back(_)));
    let line = "(src=10.1.1.1,dst=10.1.1.2,recirc_id=0,ip_id=7,dl_type=0x800,zone=0,nw_proto=17,\
                num_fragments=1,state=first frag)";
    assert_eq!(ipf.lists(), [line]);
}

#[test]
fn what_does_not_become_whole_goes_on_invalid_or_not_at_all() {
    let ipf = ipf();
    let parts = fragments(&whole(2000), 800);
    ipf.offer(parts[0].clone(), Family::V4, 3, 0);
    assert!(ipf.due(0, Family::V4, 3, 32, 15_000).is_empty());
    assert!(ipf.due(0, Family::V4, 4, 32, 15_001).is_empty());
    let due = ipf.due(0, Family::V4, 3, 32, 15_001);
    assert_eq!((due.len(), due[0].1, ipf.nfrag().1), (1, true, 0));
    ipf.offer(parts[0].clone(), Family::V4, 3, 0);
    assert_eq!((ipf.purge(24_999).len(), ipf.purge(25_000).len()), (0, 1));
    assert_eq!(ipf.status(Family::V4).purged, 1);
}

#[test]
fn translation_reaches_every_fragment() {
    let ipf = ipf();
    let mut last = None;
    for part in fragments(&whole(2000), 800) {
        last = Some(ipf.offer(part, Family::V4, 0, 0));
    }
    let Some(Offered::Whole(mut w)) = last else { panic!() };
    let to = packet::header::Ipv4Key { src: 9, ..Default::default() };
    let mask = packet::header::Ipv4Key { src: u32::MAX, ..Default::default() };
    packet::edit::set_ipv4(w.carrier.packet_mut(), &packet::header::Masked { key: to, mask });
    for item in ipf.take_apart(w, &PacketCt::default()) {
        assert_eq!(&item.0.data()[26..30], [0, 0, 0, 9]);
        assert_eq!(finish(sum(&item.0.data()[14..34])), 0);
    }
}
