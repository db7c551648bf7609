//! Actions as text: any text parses or fails; what parses has a text that parses to the same, and bytes in
//! every version.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openflow::Version;
use openflow::action::{Action, Encoder, Parser, Text};

fn text(actions: &[Action]) -> String {
    let mut out = String::new();
    Text::new(&mut out).actions(actions);
    out
}

fuzz_target!(|data: &[u8]| {
    let Ok(s) = std::str::from_utf8(data) else { return };
    let _ = Parser::default().actions(s);
    let Ok(actions) = Parser::default().instructions(s) else { return };
    let written = text(&actions);
    // A value of NSH metadata is written as a number: without its leading zeros, of which one may be half
    // of a byte.
    let says_all = !written.contains("tlv(");
    if says_all && let Ok(back) = Parser::default().instructions(&written) {
        assert_eq!(text(&back), written);
    }
    for version in Version::ALL {
        let mut out = Vec::new();
        Encoder::new(version, &mut out).instructions(&actions);
    }
});
