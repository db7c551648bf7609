//! Cache and table against a list.

use super::fake::*;
use dpif::*;
use flow::{Flow, Mask};
use proptest::prelude::*;

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    (0u32..6, 0u8..3, 0u8..3).prop_map(|(dst, src, port)| {
        let mut f = udp(dst, 60);
        (f[29], f[35]) = (src, port);
        f
    })
}

fn any_mask() -> impl Strategy<Value = Mask> {
    any::<[bool; 4]>().prop_map(|[dst, src, port, kind]| {
        let mut m = Mask::NONE;
        m.in_port = u32::MAX;
        m.nw_dst = if dst { u32::MAX } else { 0 };
        m.nw_src = if src { 0x3 } else { 0 };
        m.tp_src = if port { 0xff } else { 0 };
        m.dl_type = if kind { 0xffff } else { 0 };
        m
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Packets go where some megaflow that matches says; without one, to the switch.
    #[test]
    fn packets_find_their_megaflow(
        steps in proptest::collection::vec((any_frame(), any_mask(), 0u8..4), 1..60),
    ) {
        let wires: Vec<_> = (1..=8).map(|n| Wire::new(&format!("w{n}"), false, 1, false)).collect();
        // Port 8 stands for "no megaflow": nothing is installed for it.
        let switch = Switch::new(|_| UpcallReply { actions: vec![Action::Output(PortNo(8))].into(), flow: None });
        let dp = datapath(&wires.iter().collect::<Vec<_>>(), &switch);
        let mut list: Vec<(Flow, Mask, u32, Ufid)> = Vec::new();
        for (n, (frame, mask, what)) in steps.iter().enumerate() {
            let mut packet = packet::Packet::from_slice(frame);
            let meta = packet::Meta { in_port: 1, ..packet::Meta::default() };
            let key = packet::parse::flow_of(&mut packet, &meta);
            let matching = |list: &[(Flow, Mask, u32, Ufid)]| -> Vec<usize> {
                (0..list.len()).filter(|i| list[*i].1.matches(&list[*i].0, &key)).collect()
            };
            match what {
                0 => {
                    let port = n as u32 % 7 + 1;
                    let ufid = Ufid(n as u128 + 1);
                    let actions = [Action::Output(PortNo(port))];
                    let result = dp.flow_put(PutMode::Create, Some(ufid), &key, mask, &actions, None);
                    let want = if matching(&list).is_empty() { Ok(None) } else { Err(DpifError::Exists) };
                    prop_assert_eq!(result, want);
                    if result.is_ok() {
                        list.push((key.clone(), mask.clone(), port, ufid));
                    }
                }
                1 if !list.is_empty() => {
                    let (.., ufid) = list.swap_remove(n % list.len());
                    prop_assert!(dp.flow_del(ufid, None).is_ok());
                }
                _ => {}
            }
            dp.inject(PortNo(1), packet);
            let went: Vec<u32> =
                wires.iter().zip(1..).filter(|(w, _)| !w.take().is_empty()).map(|(_, n)| n).collect();
            let may: Vec<u32> = matching(&list).iter().map(|i| list[*i].2).collect();
            prop_assert_eq!(went.len(), 1);
            let may = if may.is_empty() { vec![8] } else { may };
            prop_assert!(may.contains(&went[0]));
        }
        prop_assert_eq!(dp.flow_count(), list.len());
    }
}

#[test]
fn megaflows_and_port_numbers_survive_a_restart() {
    let wires = ["a", "b", "c"].map(|n| Wire::new(n, false, 1, false));
    let actions = vec![
        Action::PushVlan { tpid: 0x8100, tci: 0x1005 },
        Action::Clone(vec![Action::PopVlan, Action::Output(PortNo(2))]),
        Action::Recirc(3),
    ];
    let switch = Switch::new(move |u| match u.key.recirc_id {
        0 => reply(actions.clone()),
        _ => reply(vec![Action::Output(PortNo(3))]),
    });
    let dp = datapath(&wires.iter().collect::<Vec<_>>(), &switch);
    for n in 0..6 {
        dp.inject(PortNo(1), packet::Packet::from_slice(&udp(n % 3, 60)));
    }
    let saved = dp.save();
    assert_eq!((saved.ports.len(), saved.flows.len()), (3, 6));
    let mut container = saved_state::Container::new();
    container.put(&saved).unwrap();
    let saved: crate::SavedDatapath = container.get().unwrap().unwrap();

    let again = datapath(&[], &switch);
    again.restore_ports(&saved);
    let add = |name| again.port_add(Wire::new(name, false, 1, false).device(), None).unwrap().0;
    assert_eq!((add("new"), add("c"), add("a"), add("b")), (4, 3, 1, 2));
    assert_eq!(again.restore_flows(&saved), 6);
    let asked = switch.upcalls.load(std::sync::atomic::Ordering::SeqCst);
    again.inject(PortNo(1), packet::Packet::from_slice(&udp(1, 60)));
    assert_eq!(switch.upcalls.load(std::sync::atomic::Ordering::SeqCst), asked);
    let counts = |dp: &crate::Datapath| {
        let mut all: Vec<_> = dp.flow_dump().iter().map(|f| (f.ufid, f.stats.packets)).collect();
        all.sort_unstable();
        all
    };
    let (before, after) = (counts(&dp), counts(&again));
    assert_eq!(after.iter().map(|f| f.1).sum::<u64>(), before.iter().map(|f| f.1).sum::<u64>() + 2);
    assert!(before.iter().zip(&after).all(|(b, a)| b.0 == a.0));
}
