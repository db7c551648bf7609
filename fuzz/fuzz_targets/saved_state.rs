//! A container of saved states: what can be read is written as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| saved_state::fuzz(data));
