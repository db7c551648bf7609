//! What an OVSDB server may send, after a session was greeted.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ovsdb_shim::fuzz_message(data));
