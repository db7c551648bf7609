//! A guest that writes anything into its rings at any moment, and a front end that says anything, stop nothing but
//! their own port.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| match data.split_first() {
    Some((which, rest)) if which & 1 == 0 => netdev_vhost::fuzz::ring(rest),
    Some((_, rest)) => netdev_vhost::fuzz::messages(rest),
    None => {}
});
