//! Trails against the same packets without them: what arrives by a device follows trails, what is injected never does.

use super::fake::*;
use crate::Datapath;
use dpif::*;
use flow::ct_state as cs;
use packet::checksum;
use packet::header::Masked;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

const CLIENT: u32 = 0x0a09_0900;
const SERVER: u32 = 0x0a00_0001;
const NATTED: u32 = 0x0a09_0963;

/// What happens to the switch.
#[derive(Clone, Debug)]
enum Event {
    /// A packet between a client and the server.
    Packet {
        client: u8,
        sport: u8,
        is_reply: bool,
        tcp: Option<(u16, u32)>,
        tos: u8,
    },
    FlushZone(u16),
    DeleteFlows,
    /// What the switch decides from now on marks connections so.
    Mark(u32),
}

fn event() -> impl Strategy<Value = Event> {
    let flags = prop_oneof![4 => Just(0x10u16), 2 => Just(0x18), 2 => Just(2), 2 => Just(0x12), 1 => Just(0x11), 1 => Just(4)];
    let tcp = prop_oneof![2 => Just(None), 5 => (flags, 1000u32..1003).prop_map(Some)];
    let packet = (0..2u8, 0..2u8, any::<bool>(), tcp, prop_oneof![9 => Just(0u8), 1 => Just(4)]);
    prop_oneof![
        40 => packet.prop_map(|(client, sport, is_reply, tcp, tos)| Event::Packet { client, sport, is_reply, tcp, tos }),
        1 => (1..3u16).prop_map(Event::FlushZone),
        1 => Just(Event::DeleteFlows),
        1 => (0..3u32).prop_map(Event::Mark),
    ]
}

/// The frame of a packet, with the checksums that the tracker asks for.
fn frame(src: u32, dst: u32, ports: (u16, u16), tcp: Option<(u16, u32)>, tos: u8) -> Vec<u8> {
    let len: usize = if tcp.is_some() { 54 } else { 42 };
    let mut f = udp(0, len);
    f[15] = tos;
    f[26..30].copy_from_slice(&src.to_be_bytes());
    f[30..34].copy_from_slice(&dst.to_be_bytes());
    f[34..36].copy_from_slice(&ports.0.to_be_bytes());
    f[36..38].copy_from_slice(&ports.1.to_be_bytes());
    if let Some((flags, seq)) = tcp {
        f[23] = 6;
        f[38..42].copy_from_slice(&seq.to_be_bytes());
        f[42..46].copy_from_slice(&1001u32.to_be_bytes());
        f[46..48].copy_from_slice(&(0x5000 | flags).to_be_bytes());
        f[48..50].copy_from_slice(&4096u16.to_be_bytes());
        let pseudo = checksum::pseudo_v4(src, dst, 6, (len - 34) as u32);
        let sum = checksum::finish(pseudo + checksum::sum(&f[34..]));
        f[50..52].copy_from_slice(&sum.to_be_bytes());
    }
    let sum = checksum::checksum(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f
}

fn ct(zone: u16, commit: bool, nat: Option<Nat>, mark: Option<u32>) -> Action {
    let mark = mark.map(|key| Masked { key, mask: u32::MAX });
    Action::Ct(Box::new(Ct { zone, commit, nat, mark, ..Ct::default() }))
}

/// A gateway as a cloud's pipeline has it: two zones, the first one of which may translate, then what the states say.
fn gateway(mark: Arc<AtomicU32>, translates: bool) -> impl Fn(&Upcall<'_>) -> UpcallReply {
    let none =
        Nat { direction: None, addr: None, ports: None, persistent: false, hash: false, random: false };
    let source = NatAddr::V4(NATTED);
    let snat = Nat { direction: Some(NatDirection::Src), addr: Some((source, source)), ..none.clone() };
    move |u| {
        let k = u.key;
        let nat = |n: &Nat| translates.then(|| n.clone());
        let actions = match (k.recirc_id, k.in_port, k.ct_state) {
            (0, ..) => vec![ct(1, false, nat(&none), None), Action::Recirc(1)],
            (_, _, s) if s & cs::INV != 0 => vec![],
            (1, ..) => vec![
                Action::Set(SetKey::SkbMark(Masked { key: k.ct_mark + 5, mask: u32::MAX })),
                ct(2, false, None, None),
                Action::Recirc(2),
            ],
            (_, 1, s) if s & cs::NEW != 0 => vec![
                ct(2, true, None, Some(mark.load(SeqCst))),
                ct(1, true, nat(&snat), Some(mark.load(SeqCst))),
                Action::Output(PortNo(2)),
            ],
            (_, 1, s) if s & cs::EST != 0 => vec![Action::Output(PortNo(2))],
            (_, 2, s) if s & cs::EST != 0 => {
                vec![Action::PushVlan { tpid: 0x8100, tci: 0x1005 }, Action::Output(PortNo(1))]
            }
            _ => vec![],
        };
        let mut reply = reply(actions);
        if let Some(new) = &mut reply.flow {
            (new.mask.ct_state, new.mask.ct_mark, new.mask.pkt_mark) = (u32::MAX, u32::MAX, u32::MAX);
        }
        reply
    }
}

struct Site {
    wires: [Arc<Wire>; 2],
    dp: Arc<Datapath>,
    mark: Arc<AtomicU32>,
    /// Packets that came in, by port.
    came: [u64; 2],
    is_injected: bool,
}

impl Site {
    fn new(translates: bool, is_injected: bool) -> Self {
        let wires = ["a", "b"].map(|n| Wire::new(n, false, 1, false));
        let mark = Arc::default();
        let switch = Switch::new(gateway(Arc::clone(&mark), translates));
        let dp = datapath(&[&wires[0], &wires[1]], &switch);
        Site { wires, dp, mark, came: [0; 2], is_injected }
    }

    fn take_in(&mut self, port: usize, frame: &[u8]) -> [Vec<Vec<u8>>; 2] {
        let no = PortNo(port as u32 + 1);
        self.came[port] += 1;
        if self.is_injected {
            self.dp.inject(no, packet::Packet::from_slice(frame));
        } else {
            self.wires[port].arrive(0, frame);
        }
        eventually("the packet's end", || {
            let t = self.dp.port_totals(no).unwrap();
            let (inside, outside) =
                (t.received + t.copied + t.reinjected, t.output + t.upcalled + t.finished + t.dropped);
            let is_done = t.received == self.came[port] && t.upcalled == t.reinjected && inside == outside;
            // What is counted as output may wait to be sent with others.
            let ports = [1, 2].map(|no| self.dp.port_totals(PortNo(no)).unwrap());
            let sent: u64 = self.wires.iter().map(|w| w.count()).sum();
            is_done && sent == ports.iter().map(|t| t.output).sum::<u64>()
        });
        [self.wires[0].take(), self.wires[1].take()]
    }

    fn happen(&mut self, event: &Event, translates: bool) -> [Vec<Vec<u8>>; 2] {
        match *event {
            Event::Packet { client, sport, is_reply, tcp, tos } => {
                let (address, port) = (CLIENT + u32::from(client), 1000 + u16::from(sport));
                let seen = if translates { NATTED } else { address };
                return match is_reply {
                    false => self.take_in(0, &frame(address, SERVER, (port, 80), tcp, tos)),
                    true => self.take_in(1, &frame(SERVER, seen, (80, port), tcp, tos)),
                };
            }
            Event::FlushZone(zone) => {
                self.dp.conntrack().flush(Some(zone));
            }
            Event::DeleteFlows => self.dp.flow_flush(),
            Event::Mark(mark) => self.mark.store(mark, SeqCst),
        }
        Default::default()
    }

    /// Connections and megaflows as text.
    fn state(&self) -> (Vec<String>, Vec<String>) {
        let conns = self.dp.conntrack().dump_all(None, 0);
        let mut conns: Vec<String> = conns.iter().map(|c| format!("{c:?}")).collect();
        let flows = self.dp.flow_dump();
        let mut flows: Vec<String> = flows
            .iter()
            .map(|f| format!("{} {:?} {:?} {:?}", f.key.ct_state, f.ufid, f.actions, f.stats))
            .collect();
        conns.sort();
        flows.sort();
        (conns, flows)
    }

    fn followed(&self) -> u64 {
        self.dp.worker_stats().iter().map(|s| s.followed.get()).sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn packets_on_trails_fare_as_others(events in prop::collection::vec(event(), 1..120), translates in any::<bool>()) {
        let mut sites = [Site::new(translates, false), Site::new(translates, true)];
        for event in &events {
            let [followed, injected] = sites.each_mut().map(|s| s.happen(event, translates));
            prop_assert_eq!(followed, injected, "{:?}", event);
        }
        prop_assert_eq!(sites[0].state(), sites[1].state());
    }
}

#[test]
fn an_established_connection_leaves_a_trail() {
    for translates in [false, true] {
        let mut site = Site::new(translates, false);
        let packet = |is_reply| Event::Packet { client: 0, sport: 0, is_reply, tcp: None, tos: 0 };
        for n in 0..40 {
            let [to_client, to_server] = site.happen(&packet(n % 2 == 1), translates);
            assert_eq!((to_client.len(), to_server.len()), (n % 2, 1 - n % 2));
        }
        assert!(site.followed() > 10, "{}", site.followed());
    }
}
