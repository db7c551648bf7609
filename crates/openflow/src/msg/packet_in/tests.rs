use super::*;
use crate::{Protocol, identify};

const FORMATS: [PacketInFormat; 3] = [PacketInFormat::Standard, PacketInFormat::Nxt, PacketInFormat::Nxt2];

fn decoded(message: &[u8], protocol: Protocol) -> PacketIn {
    let incoming = identify(message).unwrap();
    PacketIn::decode(&incoming, &Context::unbound(protocol)).unwrap()
}

#[test]
fn the_end_of_a_long_packet_is_left_out() {
    let mut long = PacketIn::new(vec![0xab; 65_535]);
    long.userdata = vec![1; 100];
    long.continuation = vec![2; 1000];
    for protocol in Protocol::ALL {
        for format in FORMATS {
            let message = long.encode(format, &Target::new(protocol), 0);
            assert!((65_500..=65_535).contains(&message.len()), "{}", message.len());
            let back = decoded(&message, protocol);
            assert!(back.packet.len() > 64_000 && back.packet.len() < 65_535);
            assert_eq!(back.full_len, 65_535);
            if format == PacketInFormat::Nxt2 {
                assert_eq!((&back.userdata, &back.continuation), (&long.userdata, &long.continuation));
            }
        }
        let resume = long.encode_resume(&Target::new(protocol), 0);
        assert_eq!(decoded(&resume, protocol).continuation, long.continuation);
    }
}

#[test]
fn long_continuations_are_left_out() {
    let mut long = PacketIn::new(vec![0xab; 100]);
    long.userdata = vec![1; 100];
    long.continuation = vec![2; 65_500];
    let message = long.encode(PacketInFormat::Nxt2, &Target::new(Protocol::Of13), 0);
    let back = decoded(&message, Protocol::Of13);
    assert_eq!(back.continuation, b"");
    assert_eq!(back.userdata, long.userdata);
    assert_eq!((back.packet.len(), back.full_len), (64, 100));
}

#[test]
fn reasons_of_later_versions_become_older_ones() {
    let of = |reason| Version::ALL.map(|version| reason_in(reason, version));
    let (miss, action) = (reason::NO_MATCH, reason::ACTION);
    assert_eq!(of(reason::EXPLICIT_MISS), [action, action, action, miss, miss, miss]);
    assert_eq!(of(reason::IMPLICIT_MISS), [miss; 6]);
    assert_eq!(of(reason::GROUP), [action, action, action, action, reason::GROUP, reason::GROUP]);
    assert_eq!(of(reason::INVALID_TTL), [reason::INVALID_TTL; 6]);
}
