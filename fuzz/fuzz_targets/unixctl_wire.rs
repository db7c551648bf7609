//! Requests on the control socket, in pieces of any size.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| unixctl::wire::fuzz(data));
