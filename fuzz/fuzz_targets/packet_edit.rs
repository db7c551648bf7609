//! Any bytes parse to a key, and stand every edit; any bytes read as a capture file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| packet::fuzz::packet(data));
