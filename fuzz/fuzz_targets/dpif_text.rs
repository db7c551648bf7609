//! Datapath keys and actions as text: any text is read or refused, and what is printed of it reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        dpif::fuzz::text(text);
    }
});
