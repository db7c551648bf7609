//! Packets changed in place against the same actions one by one.

use super::*;
use crate::execute::{apply_set, change_headers, key_of};
use crate::item::{Item, PacketMeta};
use crate::lane::tests::frame;
use crate::lane::words;
use flow::EthAddr;
use netdev::Packets;
use packet::{Checksum, Packet};
use proptest::prelude::*;

fn action() -> impl Strategy<Value = Action> {
    let mac = || any::<[u8; 6]>().prop_map(EthAddr);
    let eth = (mac(), mac()).prop_map(|(src, dst)| EthKey { src, dst });
    let byte = || prop_oneof![2 => Just(0u8), 2 => Just(0xff), 1 => any::<u8>()];
    let word = || prop_oneof![2 => Just(0u32), 2 => Just(u32::MAX), 1 => any::<u32>()];
    let ip = (word(), word(), byte(), byte());
    let ip = ip.prop_map(|(src, dst, tos, ttl)| Ipv4Key { src, dst, tos, ttl, ..Ipv4Key::default() });
    let ports = (any::<u16>(), prop_oneof![Just(0u16), Just(0xffff), any::<u16>()]);
    let ports = ports.prop_map(|(src, dst)| PortsKey { src, dst }).boxed();
    let ports = move || (ports.clone(), ports.clone()).prop_map(|(key, mask)| Masked { key, mask });
    prop_oneof![
        (eth.clone(), eth).prop_map(|(key, mask)| Action::Set(SetKey::Ethernet(Masked { key, mask }))),
        (ip.clone(), ip).prop_map(|(key, mask)| Action::Set(SetKey::Ipv4(Masked { key, mask }))),
        ports().prop_map(|m| Action::Set(SetKey::Tcp(m))),
        ports().prop_map(|m| Action::Set(SetKey::Udp(m))),
        any::<u16>().prop_map(|tci| Action::PushVlan { tpid: 0x8100, tci }),
        any::<u16>().prop_map(|tci| Action::PushVlan { tpid: 0x88a8, tci }),
        Just(Action::PopVlan),
    ]
}

/// Frames of the shape, with checksums of any kind, some with a tag.
fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let one = (frame(), any::<[u8; 6]>(), any::<bool>(), prop::option::weighted(0.3, any::<[u8; 2]>()));
    let one = one.prop_filter_map("the shape", |(mut f, sums, has_sum, tag)| {
        words(&f)?;
        f[24..26].copy_from_slice(&sums[..2]);
        let at = if f[23] == 6 { 50 } else { 40 };
        f[at..at + 2].copy_from_slice(if has_sum { &sums[2..4] } else { &[0; 2] });
        if let Some(tci) = tag {
            f.splice(12..12, [0x81, 0, tci[0], tci[1]]);
        }
        Some(f)
    });
    prop::collection::vec(one, 1..6)
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
        let mut burst = Packets(frames.iter().map(|f| Packet::from_slice(f)).collect());
        // Some are to be finished first.
        for (place, packet) in burst.0.iter_mut().enumerate().filter(|(place, _)| odd & (0x101 << place) == 0) {
            packet.offload.checksum = Checksum::Partial { start: 34, offset: place as u16 };
        }
        let bits = netdev::burst::all_places(frames.len());
        let mut plan = Plan::new(&mut burst, std::iter::once((&*edit, bits)));
        let done = plan.run(&mut burst);
        for (place, frame) in frames.iter().enumerate() {
            let packet = &burst.0[place];
            let l3 = if frame[12] == 0x81 { 18 } else { 14 };
            let fits = edit.ports_of.is_none_or(|p| p == frame[l3 + 9]) && odd & (0x101 << place) != 0
                && (edit.tagging != Tagging::Pop || l3 == 18);
            prop_assert_eq!(done & (1 << place) != 0, fits);
            if fits {
                let expected = slowly(frame, &actions[..actions.len() - 1]);
                prop_assert_eq!(packet.data(), &expected[..], "{:?} {:02x?}", actions, frame);
                prop_assert_eq!(plan.lens[place] as usize, expected.len());
            } else {
                prop_assert_eq!(packet.data(), &frame[..]);
            }
        }
    }
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
