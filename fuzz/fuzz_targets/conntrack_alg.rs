//! Payloads of FTP control connections.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| conntrack::fuzz::alg(data));
