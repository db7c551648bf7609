//! Whole conversations through the tracker.

use crate::key::Family;
use crate::request::{PacketCt, Request};
use crate::track::Conntrack;
use crate::{Helper, LimitZone};
use dpif::{Nat, NatAddr, NatDirection};
use flow::{U128, ct_state as cs};
use packet::checksum::{checksum, finish, pseudo_v4, sum};
use packet::header::Masked;
use packet::{Meta, Packet};

pub const SYN: u8 = 2;
pub const ACK: u8 = 16;
const TRK: u32 = cs::TRK;
pub const NOW: u64 = 1_000_000;

/// An IPv4 frame with `l4` behind its header.
pub fn ipv4(src: u32, dst: u32, proto: u8, l4: &[u8]) -> Packet {
    let mut b = vec![0; 12];
    b.extend([8, 0, 0x45, 0]);
    b.extend((20 + l4.len() as u16).to_be_bytes());
    b.extend([0, 7, 0, 0, 64, proto, 0, 0]);
    b.extend(src.to_be_bytes());
    b.extend(dst.to_be_bytes());
    let c = checksum(&b[14..34]);
    b[24..26].copy_from_slice(&c.to_be_bytes());
    b.extend(l4);
    let at = match proto {
        6 => Some(16),
        17 => Some(6),
        _ => None,
    };
    if let Some(at) = at {
        let s = pseudo_v4(src, dst, proto, l4.len() as u32) + sum(l4);
        b[34 + at..36 + at].copy_from_slice(&finish(s).to_be_bytes());
    }
    parsed(&b)
}

pub fn parsed(b: &[u8]) -> Packet {
    let mut p = Packet::from_slice(b);
    packet::parse::flow_of(&mut p, &Meta::default());
    p
}

pub fn tcp(src: (u32, u16), dst: (u32, u16), flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Packet {
    let mut l4 = Vec::new();
    l4.extend(src.1.to_be_bytes());
    l4.extend(dst.1.to_be_bytes());
    l4.extend(seq.to_be_bytes());
    l4.extend(ack.to_be_bytes());
    l4.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    l4.extend(payload);
    ipv4(src.0, dst.0, 6, &l4)
}

pub fn udp(src: (u32, u16), dst: (u32, u16)) -> Packet {
    let mut l4 = Vec::new();
    l4.extend(src.1.to_be_bytes());
    l4.extend(dst.1.to_be_bytes());
    l4.extend([0, 12, 0, 0, 1, 2, 3, 4]);
    ipv4(src.0, dst.0, 17, &l4)
}

fn icmp(src: u32, dst: u32, kind: u8, id: u16, body: &[u8]) -> Packet {
    let mut l4 = vec![kind, 0, 0, 0];
    l4.extend(id.to_be_bytes());
    l4.extend([0, 1]);
    l4.extend(body);
    let c = checksum(&l4);
    l4[2..4].copy_from_slice(&c.to_be_bytes());
    ipv4(src, dst, 1, &l4)
}

pub const A: u32 = 0x0a01_0101;
pub const B: u32 = 0x0a01_0102;
const N: u32 = 0x0a09_0909;

pub fn commit() -> Request<'static> {
    Request { commit: true, ..Request::default() }
}

/// Sends a packet through once.
fn pass(ct: &Conntrack, p: &mut Packet, request: &Request<'_>, now: u64) -> PacketCt {
    let mut meta = PacketCt::default();
    ct.process(p, Family::V4, &mut meta, request, now);
    meta
}

pub fn state(ct: &Conntrack, mut p: Packet, request: &Request<'_>) -> u32 {
    pass(ct, &mut p, request, NOW).meta.state
}

/// Source, destination and ports of a frame, whose checksums must be right.
fn addresses(p: &Packet) -> (u32, u32, u16, u16) {
    let d = p.data();
    assert_eq!(finish(sum(&d[14..34])), 0, "IP checksum");
    let l4 = p.l4_bytes();
    let word = |at: usize| u32::from_be_bytes(d[at..at + 4].try_into().unwrap());
    let pseudo = pseudo_v4(word(26), word(30), d[23], l4.len() as u32);
    let pseudo = if d[23] == 1 { 0 } else { pseudo };
    assert_eq!(finish(pseudo + sum(l4)), 0, "L4 checksum");
    let half = |at: usize| u16::from_be_bytes(d[at..at + 2].try_into().unwrap());
    (word(26), word(30), half(34), half(36))
}

pub fn nat(direction: NatDirection, addr: u32, ports: Option<(u16, u16)>) -> Nat {
    let addr = NatAddr::V4(addr);
    Nat { direction: Some(direction), addr: Some((addr, addr)), ports, ..Nat::default() }
}

#[test]
fn a_tcp_conversation() {
    let ct = Conntrack::new(1);
    let (a, b) = ((A, 1000), (B, 80));
    assert_eq!(state(&ct, tcp(b, a, SYN | ACK, 5, 1, &[]), &commit()), cs::INV | TRK);
    assert_eq!(state(&ct, tcp(a, b, SYN, 1, 0, &[]), &Request::default()), cs::NEW | TRK);
    assert_eq!(ct.len(), 0);
    assert_eq!(state(&ct, tcp(a, b, SYN, 1, 0, &[]), &commit()), cs::NEW | TRK);
    let reply = cs::EST | cs::RPL | TRK;
    assert_eq!(state(&ct, tcp(b, a, SYN | ACK, 500, 2, &[]), &Request::default()), reply);
    assert_eq!(state(&ct, tcp(a, b, ACK, 2, 501, &[]), &Request::default()), cs::EST | TRK);
    let far = tcp(a, b, ACK, 90_000_000, 501, &[1]);
    assert_eq!(state(&ct, far.clone(), &Request::default()), cs::INV | TRK);
    ct.set_sequence_check(false);
    assert_eq!(state(&ct, far, &Request::default()), cs::EST | TRK);
    let text = ct.dump_all(None, NOW)[0].text(false, false);
    assert_eq!(
        text,
        "tcp,orig=(src=10.1.1.1,dst=10.1.1.2,sport=1000,dport=80),\
         reply=(src=10.1.1.2,dst=10.1.1.1,sport=80,dport=1000),protoinfo=(state=ESTABLISHED)"
    );
}

#[test]
fn udp_and_icmp_are_new_until_they_are_answered() {
    let ct = Conntrack::new(1);
    let (a, b) = ((A, 1000), (B, 53));
    for _ in 0..3 {
        assert_eq!(state(&ct, udp(a, b), &commit()), cs::NEW | TRK);
    }
    assert_eq!(state(&ct, udp(b, a), &Request::default()), cs::EST | cs::RPL | TRK);
    assert_eq!(state(&ct, udp(a, b), &Request::default()), cs::EST | TRK);
    assert_eq!(state(&ct, icmp(B, A, 0, 7, &[]), &commit()), cs::INV | TRK);
    assert_eq!(state(&ct, icmp(A, B, 8, 7, &[]), &commit()), cs::NEW | TRK);
    assert_eq!(state(&ct, icmp(B, A, 0, 7, &[]), &commit()), cs::EST | cs::RPL | TRK);
    assert_eq!(state(&ct, icmp(B, A, 0, 8, &[]), &commit()), cs::INV | TRK);
    assert_eq!(ct.len(), 2);
}

#[test]
fn bad_packets_are_invalid() {
    let ct = Conntrack::new(1);
    let mut p = udp((A, 1), (B, 2));
    let at = p.len() - 1;
    p.data_mut()[at] ^= 1;
    assert_eq!(state(&ct, p, &commit()), cs::INV | TRK);
    assert_eq!(state(&ct, udp((A, 0), (B, 2)), &commit()), cs::INV | TRK);
    assert_eq!(state(&ct, icmp(A, B, 3, 0, &[]), &commit()), cs::INV | TRK);
}

#[test]
fn the_source_is_translated_and_replies_come_back() {
    let ct = Conntrack::new(1);
    let nat = nat(NatDirection::Src, N, None);
    let request = Request { nat: Some(&nat), ..commit() };
    let mut out = udp((A, 1000), (B, 53));
    assert_eq!(pass(&ct, &mut out, &request, NOW).meta.state, cs::NEW | cs::SNAT | TRK);
    assert_eq!(addresses(&out), (N, B, 1000, 53));
    let mut other = udp((A + 7, 1000), (B, 53));
    pass(&ct, &mut other, &request, NOW);
    assert_eq!(addresses(&other), (N, B, 1001, 53));
    let plain = Nat::default();
    let back = Request { nat: Some(&plain), ..Request::default() };
    for (port, client) in [(1000, A), (1001, A + 7)] {
        let mut reply = udp((B, 53), (N, port));
        let meta = pass(&ct, &mut reply, &back, NOW).meta;
        assert_eq!(meta.state, cs::EST | cs::RPL | cs::DNAT | TRK);
        assert_eq!(addresses(&reply), (B, client, 53, 1000));
    }
    assert_eq!(ct.len(), 2);
    assert_eq!(ct.flush(Some(0)), 2);
    let mut again = udp((A + 7, 1000), (B, 53));
    pass(&ct, &mut again, &request, NOW);
    assert_eq!(addresses(&again), (N, B, 1000, 53));
}

#[test]
fn a_range_of_one_port_serves_one_client() {
    let ct = Conntrack::new(1);
    let nat = nat(NatDirection::Src, N, Some((5000, 5000)));
    let request = Request { nat: Some(&nat), ..commit() };
    assert_eq!(state(&ct, udp((A, 1), (B, 53)), &request), cs::NEW | cs::SNAT | TRK);
    assert_eq!(state(&ct, udp((A, 2), (B, 53)), &request), cs::NEW | TRK);
    assert_eq!(ct.len(), 1);
    assert_eq!(ct.counters.nat_exhausted.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn the_destination_is_translated_and_errors_are_too() {
    let ct = Conntrack::new(1);
    let nat = nat(NatDirection::Dst, B, Some((8080, 8080)));
    let request = Request { nat: Some(&nat), ..commit() };
    let mut out = udp((A, 1000), (N, 80));
    pass(&ct, &mut out, &request, NOW);
    assert_eq!(addresses(&out), (A, B, 1000, 8080));
    // The server refuses: port unreachable, with what it got.
    let mut error = icmp(B, A, 3, 0, &out.data()[14..]);
    let plain = Nat::default();
    let back = Request { nat: Some(&plain), ..Request::default() };
    let meta = pass(&ct, &mut error, &back, NOW).meta;
    assert_eq!(meta.state, cs::REL | cs::RPL | cs::SNAT | TRK);
    assert_eq!(addresses(&error).0, N);
    let quoted = parsed(&[&[0; 12][..], &[8, 0], &error.data()[42..]].concat());
    assert_eq!(addresses(&quoted), (A, N, 1000, 80));
}

#[test]
fn marks_labels_and_zones() {
    let ct = Conntrack::new(1);
    let label = U128 { hi: 1, lo: 2 };
    let request = Request {
        zone: 5,
        mark: Some(Masked { key: 0xf0, mask: 0xff }),
        label: Some(Masked { key: label, mask: U128::MAX }),
        ..commit()
    };
    let meta = pass(&ct, &mut udp((A, 1), (B, 2)), &request, NOW);
    assert_eq!((meta.meta.mark, meta.meta.label, meta.meta.zone), (0xf0, label, 5));
    let mut p = udp((B, 2), (A, 1));
    let mut meta = pass(&ct, &mut p, &Request { zone: 5, ..Request::default() }, NOW);
    assert_eq!((meta.meta.mark, meta.meta.label), (0xf0, label));
    // The next `ct` of the same zone knows the connection and changes its mark alone.
    let mark = Some(Masked { key: 1, mask: 1 });
    ct.process(&mut p, Family::V4, &mut meta, &Request { zone: 5, mark, ..commit() }, NOW);
    assert_eq!((meta.meta.mark, meta.meta.state), (0xf1, cs::EST | cs::RPL | TRK));
    assert_eq!(ct.dump_all(Some(5), NOW)[0].mark, 0xf1);
    // Another zone has no such connection.
    ct.process(&mut p, Family::V4, &mut meta, &Request { zone: 6, ..Request::default() }, NOW);
    assert_eq!((meta.meta.state, meta.meta.mark), (cs::NEW | TRK, 0));
}

#[test]
fn force_turns_a_connection_around() {
    let ct = Conntrack::new(1);
    state(&ct, udp((A, 1), (B, 2)), &commit());
    let force = Request { force: true, ..commit() };
    assert_eq!(state(&ct, udp((B, 2), (A, 1)), &force), cs::NEW | TRK);
    assert_eq!(state(&ct, udp((A, 1), (B, 2)), &Request::default()), cs::EST | cs::RPL | TRK);
    assert_eq!(ct.len(), 1);
}

#[test]
fn connections_expire_and_are_swept() {
    let ct = Conntrack::new(1);
    for port in 1..=1000 {
        state(&ct, udp((A, port), (B, 2)), &commit());
    }
    assert_eq!(ct.sweep(crate::SHARDS as u32, NOW + 59_999), 0);
    assert_eq!(ct.dump_all(None, NOW + 60_000).len(), 0);
    assert_eq!((ct.len(), ct.stored()), (1000, 1000));
    assert_eq!(ct.sweep(crate::SHARDS as u32, NOW + 60_000), 1000);
    assert_eq!((ct.len(), ct.stored()), (0, 0));
}

#[test]
fn a_flush_leaves_nothing_to_find_and_the_sweep_takes_the_rest() {
    let ct = Conntrack::new(1);
    let nat = nat(NatDirection::Src, N, None);
    for zone in [1, 2] {
        for port in 1000..1100 {
            state(&ct, udp((A, port), (B, 2)), &Request { zone, nat: Some(&nat), ..commit() });
        }
    }
    assert_eq!(ct.flush(Some(1)), 100);
    assert_eq!((ct.len(), ct.zone_len(1), ct.dump_all(None, NOW).len()), (100, 0, 100));
    assert_eq!(ct.sweep(crate::SHARDS as u32, NOW), 100);
    assert_eq!((ct.flush(None), ct.len()), (100, 0));
}

#[test]
fn there_are_no_more_connections_than_allowed() {
    let ct = Conntrack::new(1);
    ct.set_maxconns(2);
    ct.set_limit(LimitZone::Zone(9), 1);
    for port in 1..5 {
        state(&ct, udp((A, port), (B, 2)), &Request { zone: 9, ..commit() });
    }
    assert_eq!((ct.len(), ct.limits(&[9])[0].count), (1, 1));
    for port in 1..5 {
        state(&ct, udp((A, port), (B, 2)), &commit());
    }
    assert_eq!(ct.len(), 2);
}

#[test]
fn an_ftp_server_is_told_the_translated_address() {
    let ct = Conntrack::new(1);
    let (a, b) = ((A, 1000), (B, 21));
    let nat = nat(NatDirection::Src, N, None);
    let request = Request { nat: Some(&nat), helper: Some(Helper::Ftp), ..commit() };
    let plain = Nat::default();
    let known = Request { nat: Some(&plain), ..Request::default() };
    pass(&ct, &mut tcp(a, b, SYN, 100, 0, &[]), &request, NOW);
    pass(&ct, &mut tcp(b, (N, 1000), SYN | ACK, 500, 101, &[]), &known, NOW);
    pass(&ct, &mut tcp(a, b, ACK, 101, 501, &[]), &known, NOW);
    let text = b"PORT 10,1,1,1,4,5\r\n";
    let mut port = tcp(a, b, ACK | 8, 101, 501, text);
    pass(&ct, &mut port, &known, NOW);
    assert_eq!(addresses(&port), (N, B, 1000, 21));
    assert_eq!(&port.data()[54..], b"PORT 10,9,9,9,4,5\r\n");
    // The server opens the data connection to the translated address.
    let mut data = tcp((B, 20), (N, 4 * 256 + 5), SYN, 1, 0, &[]);
    let meta = pass(&ct, &mut data, &Request { nat: Some(&plain), ..commit() }, NOW).meta;
    assert_eq!(meta.state, cs::NEW | cs::REL | cs::DNAT | TRK);
    assert_eq!(addresses(&data), (B, A, 20, 4 * 256 + 5));
    assert_eq!(ct.dump_all(None, NOW).iter().filter(|e| e.parent.is_some()).count(), 1);
}

#[test]
fn a_tftp_transfer_is_related() {
    let ct = Conntrack::new(1);
    let request = Request { helper: Some(Helper::Tftp), ..commit() };
    state(&ct, udp((A, 1000), (B, 69)), &request);
    assert_eq!(state(&ct, udp((B, 5000), (A, 1000)), &commit()), cs::NEW | cs::REL | TRK);
    assert_eq!(state(&ct, udp((A, 1000), (B, 5000)), &commit()), cs::EST | cs::REL | cs::RPL | TRK);
}

#[test]
fn what_is_saved_comes_back() {
    let ct = Conntrack::new(1);
    let nat = nat(NatDirection::Src, N, None);
    let mark = Some(Masked { key: 3, mask: 7 });
    pass(&ct, &mut udp((A, 1000), (B, 53)), &Request { nat: Some(&nat), mark, ..commit() }, NOW);
    pass(&ct, &mut tcp((A, 9), (B, 80), SYN, 1, 0, &[]), &Request { zone: 4, ..commit() }, NOW);
    let bytes = postcard::to_allocvec(&ct.save(NOW)).unwrap();
    let other = Conntrack::new(99);
    assert_eq!(other.restore(&postcard::from_bytes(&bytes).unwrap(), 5), 0);
    let mut before = ct.dump_all(None, NOW);
    let mut after = other.dump_all(None, 5);
    before.sort_by_key(|e| e.orig.zone);
    after.sort_by_key(|e| e.orig.zone);
    assert_eq!(before, after);
    let plain = Nat::default();
    let mut reply = udp((B, 53), (N, 1000));
    pass(&other, &mut reply, &Request { nat: Some(&plain), ..Request::default() }, 5);
    assert_eq!(addresses(&reply), (B, A, 53, 1000));
}

#[test]
fn an_already_translated_packet_is_found_again() {
    let ct = Conntrack::new(1);
    let nat = nat(NatDirection::Src, N, None);
    let mut p = udp((A, 1000), (B, 53));
    let mut meta = PacketCt::default();
    ct.process(&mut p, Family::V4, &mut meta, &Request { nat: Some(&nat), ..commit() }, NOW);
    ct.process(&mut p, Family::V4, &mut meta, &Request::default(), NOW);
    assert_eq!(meta.meta.state, cs::NEW | cs::SNAT | TRK);
    assert_eq!(ct.len(), 1);
    assert_eq!(addresses(&p), (N, B, 1000, 53));
}

proptest::proptest! {
    #[test]
    fn any_frames_are_dealt_with(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        crate::fuzz::packets(&data);
    }
}
