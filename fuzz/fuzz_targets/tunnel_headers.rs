#![no_main]
//! Outer headers of tunnels: popped from, and pushed as, any bytes. The first byte chooses the protocol.
use libfuzzer_sys::fuzz_target;
use packet::tunnel::TunnelKind;

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    packet::fuzz::tunnel(TunnelKind::ALL[usize::from(*which) % TunnelKind::ALL.len()], rest);
});
