//! Packets changed in place against the same actions one by one.

use super::*;
use crate::execute::{apply_set, change_headers, key_of};
use crate::express::tests::Buffers;
use crate::item::{Item, PacketMeta};
use crate::lane::tests::{frame, wide_frame};
use crate::lane::{Shape, Wide};
use flow::{EthAddr, U128};
use netdev::Packets;
use netdev::burst::head_len;
use packet::header::{EthKey, Ipv4Key, Ipv6Key, Masked, PortsKey};
use packet::{Checksum, Packet};
use proptest::prelude::*;

fn action() -> impl Strategy<Value = Action> {
    let mac = || any::<[u8; 6]>().prop_map(EthAddr);
    let eth = (mac(), mac()).prop_map(|(src, dst)| EthKey { src, dst });
    let byte = || prop_oneof![2 => Just(0u8), 2 => Just(0xff), 1 => any::<u8>()];
    let word = || prop_oneof![2 => Just(0u32), 2 => Just(u32::MAX), 1 => any::<u32>()];
    let ip = (word(), word(), byte(), byte());
    let ip = ip.prop_map(|(src, dst, tos, ttl)| Ipv4Key { src, dst, tos, ttl, ..Ipv4Key::default() });
    let half = || prop_oneof![2 => Just(0u64), 2 => Just(u64::MAX), 1 => any::<u64>()];
    let address = move || (half(), half()).prop_map(|(hi, lo)| U128 { hi, lo });
    let ip6 = (address(), address(), word(), byte(), byte()).prop_map(|(src, dst, label, tclass, hlimit)| {
        Ipv6Key { src, dst, label: label & 0xf_ffff, tclass, hlimit, ..Ipv6Key::default() }
    });
    let ip6 = ip6.boxed();
    let ports = (any::<u16>(), prop_oneof![Just(0u16), Just(0xffff), any::<u16>()]);
    let ports = ports.prop_map(|(src, dst)| PortsKey { src, dst }).boxed();
    let ports = move || (ports.clone(), ports.clone()).prop_map(|(key, mask)| Masked { key, mask });
    prop_oneof![
        (eth.clone(), eth).prop_map(|(key, mask)| Action::Set(SetKey::Ethernet(Masked { key, mask }))),
        (ip.clone(), ip).prop_map(|(key, mask)| Action::Set(SetKey::Ipv4(Masked { key, mask }))),
        (ip6.clone(), ip6).prop_map(|(key, mask)| Action::Set(SetKey::Ipv6(Masked { key, mask }))),
        ports().prop_map(|m| Action::Set(SetKey::Tcp(m))),
        ports().prop_map(|m| Action::Set(SetKey::Udp(m))),
        any::<u16>().prop_map(|tci| Action::PushVlan { tpid: 0x8100, tci }),
        any::<u16>().prop_map(|tci| Action::PushVlan { tpid: 0x88a8, tci }),
        Just(Action::PopVlan),
    ]
}

/// Where the network header of a frame is, and whether it is IPv6.
fn network(f: &[u8]) -> (usize, bool) {
    let l3 = if f[12..14] == [8, 0] || f[12..14] == [0x86, 0xdd] { 14 } else { 18 };
    (l3, f[l3 - 2] == 0x86)
}

/// Where the transport checksum is, from the network header on.
fn sum_at(proto: u8, is_six: bool) -> Option<usize> {
    let l4 = if is_six { 40 } else { 20 };
    match proto {
        6 => Some(l4 + 16),
        17 => Some(l4 + 6),
        58 if is_six => Some(l4 + 2),
        _ => None,
    }
}

/// Frames of the lanes' shapes, with checksums of any kind.
fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let sum = || prop_oneof![1 => Just([0u8, 0]), 4 => any::<[u8; 2]>()];
    let one = (prop_oneof![frame().boxed(), wide_frame().boxed()], sum(), sum());
    let one = one.prop_filter_map("the shapes", |(mut f, ip_sum, sum)| {
        Wide::words(&f)?;
        let (l3, is_six) = network(&f);
        if !is_six {
            f[l3 + 10..l3 + 12].copy_from_slice(&ip_sum);
        }
        let proto = f[l3 + if is_six { 6 } else { 9 }];
        if let Some(field) = sum_at(proto, is_six).and_then(|at| f.get_mut(l3 + at..l3 + at + 2)) {
            field.copy_from_slice(&sum);
        }
        Some(f)
    });
    prop::collection::vec(one.boxed(), 1..6)
}

/// A frame after the actions, one by one.
fn slowly(frame: &[u8], actions: &[Action]) -> Vec<u8> {
    let mut item = Item { packet: Packet::from_slice(frame), meta: PacketMeta::of_port(1) };
    key_of(&mut item, 1);
    for action in actions {
        match action {
            Action::Set(set) => apply_set(&mut item, set),
            other => change_headers(&mut item, other),
        }
    }
    item.packet.data().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn packets_are_as_the_actions_one_by_one_make_them(
        frames in frames(),
        mut actions in prop::collection::vec(action(), 0..5),
        odd in any::<u32>(),
    ) {
        actions.push(Action::Output(PortNo(3)));
        let tags = actions.iter().filter(|a| matches!(a, Action::PushVlan { .. } | Action::PopVlan)).count();
        let protos = |tcp: bool| actions.iter().any(|a| match a {
            Action::Set(SetKey::Tcp(_)) => tcp,
            Action::Set(SetKey::Udp(_)) => !tcp,
            _ => false,
        });
        let edit = Edit::of(&actions);
        prop_assert_eq!(edit.is_some(), actions.len() > 1 && tags < 2 && !(protos(true) && protos(false)));
        let Some(edit) = edit else { return Ok(()) };
        prop_assert_eq!(edit.out, PortNo(3));
        let bits = netdev::burst::all_places(frames.len());
        let mut burst = Packets(frames.iter().map(|f| Packet::from_slice(f)).collect());
        // Some are to be finished first.
        let is_odd = |place: usize| odd & (0x101 << place) == 0;
        for (place, packet) in burst.0.iter_mut().enumerate().filter(|(place, _)| is_odd(*place)) {
            packet.offload.checksum = Checksum::Partial { start: 34, offset: place as u16 };
        }
        let mut done = [Part::new(&edit.rewrite, bits)];
        burst.rewrite(&mut done);
        let packets: Vec<_> = burst.0.iter().map(|p| p.data().to_vec()).collect();
        let heads: Vec<_> = frames.iter().map(Vec::len).collect();
        are_as_one_by_one((&frames, &heads), &actions, &packets, &done[0], |place| !is_odd(place))?;
        // Buffers that lend their frames, as a whole or their heads.
        let stubborn = if odd & 0x8000 == 0 { 0 } else { odd >> 16 };
        let is_whole = odd & 0x4000 == 0;
        let mut burst = Buffers { stubborn, ..Buffers::of(&frames, is_whole) };
        let mut done = [Part::new(&edit.rewrite, bits)];
        burst.rewrite(&mut done);
        let buffers: Vec<_> = burst.places.into_iter().flatten().collect();
        let is_pushed = actions.iter().any(|a| matches!(a, Action::PushVlan { .. }));
        let can = |place: usize| stubborn & (if is_pushed { 2 } else { 1 } << place) == 0;
        let heads = frames.iter().map(|f| if is_whole { f.len() } else { f.len().min(head_len(f)) }).collect::<Vec<_>>();
        are_as_one_by_one((&frames, &heads), &actions, &buffers, &done[0], can)?;
    }
}

/// Holds frames that were changed, if a device `can` do that at their places and shows them so far, against the actions one by one.
fn are_as_one_by_one(
    (frames, heads): (&[Vec<u8>], &[usize]),
    actions: &[Action],
    changed: &[Vec<u8>],
    done: &Part<'_>,
    can: impl Fn(usize) -> bool,
) -> Result<(), TestCaseError> {
    let mut bytes = 0;
    for (place, (frame, changed)) in frames.iter().zip(changed).enumerate() {
        let fits = can(place) && is_for_here(frame, heads[place], actions);
        prop_assert_eq!(done.places & (1 << place) != 0, fits, "{:?} {:02x?}", actions, frame);
        if fits {
            let expected = slowly(frame, &actions[..actions.len() - 1]);
            prop_assert_eq!(changed, &expected, "{:?} {:02x?}", actions, frame);
            bytes += expected.len() as u64;
        } else {
            prop_assert_eq!(changed, frame);
        }
    }
    prop_assert_eq!(done.bytes, bytes);
    Ok(())
}

/// Whether a frame is to be changed in place.
fn is_for_here(frame: &[u8], shown: usize, actions: &[Action]) -> bool {
    let (l3, is_six) = network(frame);
    let mut sets = [false; 2];
    let (mut fits, mut moves) = (shown >= l3 + if is_six { 2 } else { 24 }, false);
    let proto = frame[l3 + if is_six { 6 } else { 9 }];
    for action in actions {
        match action {
            Action::PopVlan => fits &= l3 == 18,
            Action::Set(SetKey::Ipv4(m)) => {
                sets[0] = true;
                moves |= m.mask.src | m.mask.dst != 0;
            }
            Action::Set(SetKey::Ipv6(m)) => {
                sets[1] = true;
                moves |= m.mask.src != U128::ZERO || m.mask.dst != U128::ZERO;
            }
            Action::Set(SetKey::Tcp(m) | SetKey::Udp(m)) => {
                fits &= proto == if matches!(action, Action::Set(SetKey::Tcp(_))) { 6 } else { 17 };
                sets[usize::from(is_six)] = true;
                moves |= m.mask.src | m.mask.dst != 0;
            }
            _ => {}
        }
    }
    let is_fragment = !is_six && u16::from_be_bytes([frame[l3 + 6], frame[l3 + 7]]) & 0x3fff != 0;
    let sum_end = sum_at(proto, is_six).filter(|_| moves).map_or(0, |at| at + 2);
    let least = sum_end.max(if is_six { 48 } else { 24 });
    fits && !sets[usize::from(!is_six)] && (!sets[usize::from(is_six)] || !is_fragment && shown >= l3 + least)
}

#[test]
fn other_lists_are_not_for_here() {
    let out = Action::Output(PortNo(1));
    for actions in [vec![], vec![out.clone()], vec![out.clone(), out.clone()], vec![Action::PopVlan]] {
        assert!(Edit::of(&actions).is_none(), "{actions:?}");
    }
    assert!(Edit::of(&[Action::PopVlan, Action::Trunc(60), out.clone()]).is_none());
    assert!(Edit::of(&[Action::PopVlan, out]).is_some());
}
