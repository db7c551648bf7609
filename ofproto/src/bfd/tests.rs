use super::session::{Override, Session};
use super::settings::Settings;
use super::wire::{BadMessage, Diagnostic, Flags, LEN, Message, State};
use flow::EthAddr;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let mut map: BTreeMap<String, String> =
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    map.insert("enable".into(), "true".into());
    Settings::read("p", &map).unwrap()
}

/// Two sessions and the wire between them, which can be cut.
struct Pair {
    ends: [Session; 2],
    now_ms: u64,
    /// Whether what an end sends arrives.
    carries: [bool; 2],
    sent: [u32; 2],
    /// Received packets of the first end's port.
    rx_packets: u64,
}

impl Pair {
    fn new(one: &[(&str, &str)], other: &[(&str, &str)]) -> Self {
        let ends =
            [Session::new("a", settings(one), 0x1234_5678_9abc), Session::new("b", settings(other), 77)];
        Pair { ends, now_ms: 1_000_000, carries: [true; 2], sent: [0; 2], rx_packets: 0 }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now_ms += 1;
            for end in 0..2 {
                self.ends[end].run(self.now_ms, self.rx_packets);
                while let Some(frame) = self.ends[end].transmit(self.now_ms, EthAddr([2, 0, 0, 0, 0, 1])) {
                    self.sent[end] += 1;
                    if self.carries[end] {
                        self.ends[1 - end].receive(&frame[42..], frame[22], self.now_ms, self.rx_packets);
                    }
                }
            }
        }
    }

    fn states(&self) -> [State; 2] {
        [self.ends[0].state, self.ends[1].state]
    }
}

#[test]
fn sessions_come_up_and_find_out_when_the_wire_is_cut() {
    let mut pair = Pair::new(&[], &[]);
    pair.run(5_000);
    assert_eq!(pair.states(), [State::Up; 2]);
    assert!(pair.ends.iter_mut().all(|s| s.judge(pair.now_ms)));
    // Nothing comes from the first end: the second expires and says so, the first believes it.
    pair.carries[0] = false;
    pair.run(3_100);
    assert_eq!(pair.states(), [State::Down; 2]);
    assert_eq!(pair.ends[1].diagnostic, Diagnostic::EXPIRED);
    assert_eq!(pair.ends[0].diagnostic, Diagnostic::REMOTE_DOWN);
    pair.carries[0] = true;
    pair.run(5_000);
    assert_eq!(pair.states(), [State::Up; 2]);
    assert_eq!(pair.ends[0].flap_count, 3);
}

#[test]
fn intervals_are_the_slower_ones_and_change_by_a_poll_sequence() {
    let mut pair = Pair::new(&[("min_tx", "50")], &[("min_rx", "200")]);
    pair.run(5_000);
    assert_eq!(pair.ends[0].tx_interval_ms(), 200);
    pair.sent = [0; 2];
    pair.run(10_000);
    // A quarter earlier at most: 50 to 67 messages in ten seconds.
    assert!((50..=67).contains(&pair.sent[0]), "{:?}", pair.sent);
    let now_ms = pair.now_ms;
    pair.ends[1].configure(settings(&[("min_rx", "500")]), now_ms, 0);
    assert!(pair.ends[1].flags.contains(Flags::POLL));
    pair.run(2_000);
    assert_eq!((pair.ends[0].tx_interval_ms(), pair.ends[1].flags), (500, Flags::empty()));
    assert_eq!(pair.states(), [State::Up; 2]);
}

#[test]
fn a_path_that_is_down_behind_the_other_end_is_not_used() {
    let mut pair = Pair::new(&[], &[("cpath_down", "true")]);
    pair.run(5_000);
    assert_eq!(pair.states(), [State::Up; 2]);
    assert_eq!((pair.ends[0].judge(pair.now_ms), pair.ends[1].judge(pair.now_ms)), (false, true));
    pair.ends[0].set_override(Override::Forwarding(true));
    assert!(pair.ends[0].judge(pair.now_ms));
}

#[test]
fn reception_slows_down_while_there_is_no_data() {
    let mut pair = Pair::new(&[("decay_min_rx", "3000"), ("min_rx", "300")], &[]);
    pair.run(10_000);
    assert_eq!((pair.ends[0].min_rx_ms, pair.ends[1].tx_interval_ms()), (3_000, 3_000));
    assert_eq!(pair.states(), [State::Up; 2]);
    // Data comes in: back to the configured interval.
    for _ in 0..8_000 {
        pair.rx_packets += 1;
        pair.run(1);
    }
    assert_eq!(pair.ends[0].min_rx_ms, 300);
}

#[test]
fn data_keeps_a_port_forwarding_while_control_packets_are_late() {
    let mut pair = Pair::new(&[("forwarding_if_rx", "true")], &[]);
    pair.run(5_000);
    pair.carries = [false; 2];
    for _ in 0..8_000 {
        let now_ms = pair.now_ms;
        pair.ends[0].saw_data(now_ms);
        pair.run(1);
    }
    assert_eq!(pair.ends[0].state, State::Down);
    assert!(pair.ends[0].judge(pair.now_ms));
    pair.run(5_000);
    assert!(!pair.ends[0].judge(pair.now_ms));
}

#[test]
fn a_restored_session_stays_up() {
    let mut pair = Pair::new(&[], &[]);
    pair.run(5_000);
    let saved = pair.ends[0].save(pair.now_ms);
    let mut heir = Session::new("a", settings(&[]), 99);
    heir.restore(&saved, pair.now_ms);
    pair.ends[0] = heir;
    for _ in 0..5_000 {
        pair.run(1);
        assert_eq!(pair.states(), [State::Up; 2]);
    }
    assert_eq!(pair.ends[0].flap_count, 1);
}

#[test]
fn packets_from_afar_or_for_others_are_not_taken() {
    let mut pair = Pair::new(&[], &[]);
    pair.run(5_000);
    let mut message =
        Message { state: State::Down, multiplier: 3, my_discriminator: 5, ..Message::default() };
    let now_ms = pair.now_ms;
    pair.ends[0].receive(&message.encode(), 254, now_ms, 0);
    message.your_discriminator = 1;
    pair.ends[0].receive(&message.encode(), 255, now_ms, 0);
    assert_eq!(pair.ends[0].state, State::Up);
    message.your_discriminator = pair.ends[0].discriminator;
    pair.ends[0].receive(&message.encode(), 255, now_ms, 0);
    assert_eq!(pair.ends[0].state, State::Down);
}

#[test]
fn bad_messages_have_their_reasons() {
    let good = Message { multiplier: 3, my_discriminator: 5, state: State::Down, ..Message::default() };
    assert_eq!(Message::decode(&good.encode()), Ok(good));
    let with = |at: usize, byte: u8| {
        let mut bytes = good.encode();
        bytes[at] = byte;
        Message::decode(&bytes)
    };
    assert_eq!(Message::decode(&good.encode()[..LEN - 1]), Err(BadMessage::TooShort(23)));
    assert_eq!(with(0, 0), Err(BadMessage::Version));
    assert_eq!(with(1, 1 << 6 | 4), Err(BadMessage::Authenticated));
    assert_eq!(with(1, 1 << 6 | 1), Err(BadMessage::Multipoint));
    assert_eq!(with(1, 3 << 6), Err(BadMessage::NoReceiver));
    assert_eq!(with(2, 0), Err(BadMessage::Multiplier));
    assert_eq!(with(3, 23), Err(BadMessage::Length));
    assert_eq!(with(7, 0), Err(BadMessage::NoSender));
}

#[test]
fn settings_that_do_not_parse_are_the_defaults() {
    assert_eq!(Settings::read("p", &BTreeMap::new()), None);
    let odd = settings(&[("min_tx", "x"), ("mult", "300"), ("bfd_src_ip", "1.2.3"), ("decay_min_rx", "10")]);
    assert_eq!(odd, Settings::default());
    assert_eq!(settings(&[("min_rx", "0")]).min_rx_ms, 1);
}

proptest! {
    #[test]
    fn any_payload_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..40), ttl: u8) {
        let mut session = Session::new("a", settings(&[]), 5);
        session.receive(&bytes, ttl, 1, 0);
        session.run(2, 0);
        session.transmit(2, EthAddr::ZERO);
    }
}
