#![no_main]
//! What a BFD neighbour says: pieces of a moment's length (in milliseconds, a byte and its square), a length and so
//! many bytes for one session, which sends whenever it is due.
use flow::EthAddr;
use libfuzzer_sys::fuzz_target;
use ofproto::bfd::session::Session;
use ofproto::bfd::settings::Settings;
use ofproto::bfd::wire::{LEN, Message};

fuzz_target!(|data: &[u8]| {
    let settings = Settings { decay_min_rx_ms: 2_000, forwarding_if_rx: true, ..Settings::default() };
    let mut session = Session::new("p1", settings.clone(), 7);
    let (mut now, mut rest) = (0, data);
    while let [wait, len, tail @ ..] = rest {
        let (payload, next) = tail.split_at(usize::from(*len).min(tail.len()));
        rest = next;
        now += u64::from(*wait) * u64::from(*wait);
        session.receive(payload, 255, now, now / 2);
        if let Ok(message) = Message::decode(payload) {
            let known = Message { diagnostic: message.diagnostic, ..message };
            assert_eq!(Message::decode(&known.encode()), Ok(message));
        }
        session.run(now, now / 2);
        if let Some(frame) = session.transmit(now, EthAddr::ZERO) {
            assert!(Message::decode(&frame[frame.len() - LEN..]).is_ok(), "{frame:02x?}");
        }
        assert!(session.due_ms() > 0);
        let mut other = Session::new("p2", settings.clone(), 8);
        other.restore(&session.save(now), now);
        assert_eq!((other.state, other.discriminator), (session.state, session.discriminator));
    }
});
