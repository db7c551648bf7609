//! What people are shown of a session: `bfd/show`, and the log at a change.

use super::session::Session;
use std::fmt::Write;

/// All about a session, in Open vSwitch's words.
pub fn details(s: &Session, now_ms: u64) -> String {
    let from_now = |moment_ms: u64| moment_ms as i64 - now_ms as i64;
    let mut out = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a String does not fail.
        let _ = writeln!(out, "  {name}: {value}");
    };
    line("Forwarding", &s.is_forwarding(now_ms));
    line("Detect Multiplier", &s.settings.multiplier);
    line("Concatenated Path Down", &s.settings.cpath_down);
    line("TX Interval", &format_args!("Approx {}ms", s.tx_interval_ms()));
    line("RX Interval", &format_args!("Approx {}ms", s.rx_interval_ms()));
    line("Detect Time", &format_args!("now {:+}ms", from_now(s.detect_ms)));
    line("Next TX Time", &format_args!("now {:+}ms", from_now(s.next_tx_ms)));
    line("Last TX Time", &format_args!("now {:+}ms", from_now(s.last_tx_ms)));
    out.push('\n');
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "  Local {name}: {value}");
    };
    line("Flags", &s.flags);
    line("Session State", &s.state.name());
    line("Diagnostic", &s.diagnostic.name());
    line("Discriminator", &format_args!("{:#x}", s.discriminator));
    line("Minimum TX Interval", &format_args!("{}ms", s.slow_or_min_tx_ms()));
    line("Minimum RX Interval", &format_args!("{}ms", s.min_rx_ms));
    out.push('\n');
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "  Remote {name}: {value}");
    };
    line("Flags", &s.remote.flags);
    line("Session State", &s.remote.state.name());
    line("Diagnostic", &s.remote.diagnostic.name());
    line("Discriminator", &format_args!("{:#x}", s.remote.discriminator));
    line("Minimum TX Interval", &format_args!("{}ms", s.remote.min_tx_ms));
    line("Minimum RX Interval", &format_args!("{}ms", s.remote.min_rx_ms));
    line("Detect Multiplier", &s.remote.multiplier);
    out
}

/// `Interface.bfd_status`.
pub fn status(s: &Session, now_ms: u64) -> [(&'static str, String); 6] {
    [
        ("forwarding", s.is_forwarding(now_ms).to_string()),
        ("state", s.state.name().to_owned()),
        ("diagnostic", s.diagnostic.name().to_owned()),
        ("flap_count", s.flap_count.to_string()),
        ("remote_state", s.remote.state.name().to_owned()),
        ("remote_diagnostic", s.remote.diagnostic.name().to_owned()),
    ]
}
