//! Frames, fragments among them, through reassembly and a connection tracker that translates them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| conntrack::fuzz::packets(data));
