//! OpenFlow messages of every version: any bytes decode or fail; what decodes goes to every version, and
//! comes back the same in its own.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| openflow::fuzz::fuzz(data));
