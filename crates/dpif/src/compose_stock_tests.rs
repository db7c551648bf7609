//! What a key becomes as a packet, against what the daemon makes of the same key.

use crate::frames;
use crate::stock::Stock;
use crate::text::{Style, flow_key_text, parse_exact_key};
use packet::compose::{Payload, compose};
use packet::{Meta, Packet, pcap};

/// Payload that the daemon adds where there can be one.
const PAYLOAD: usize = 64;

#[test]
fn received_keys_are_the_same_packets() {
    let Some(stock) = Stock::start("compose") else { return };
    assert!(stock.ofctl(&["add-flow", "in_port=1,actions=output:2"]));
    let file = stock.capture("p2");
    let mut wanted = Vec::new();
    for seed in 0..1500 {
        let mut p = Packet::from_slice(&frames::frame(seed));
        let key = packet::parse::flow_of(&mut p, &Meta::default());
        let text = flow_key_text(&key, &Style::default());
        // The daemon cannot read NSH, nor say frames without a type.
        if key.dl_type < 0x600 || text.contains("nsh(") || text.contains("mpls()") {
            continue;
        }
        let Ok((said, _)) = parse_exact_key(&text, None) else { continue };
        assert_eq!(stock.appctl("netdev-dummy/receive", &["p1", &text]), Ok(String::new()), "{text}");
        wanted.push((text, compose(&said, Payload::Count(PAYLOAD)).data().to_vec()));
    }
    // Forwarding is another thread's.
    let read = || -> Vec<Vec<u8>> {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let Ok(reader) = pcap::Reader::new(&bytes) else { return Vec::new() };
        reader.flatten().map(|r| r.frame.to_vec()).collect()
    };
    let got = stock.until(read, |frames| frames.len() >= wanted.len());
    for (got, (what, want)) in got.iter().zip(&wanted) {
        assert_eq!(got, want, "{what}");
    }
    assert_eq!(got.len(), wanted.len());
    assert!(wanted.len() > 1000);
}
