//! The same commands against Debian's daemon and ours: what the tools print is the same, but for a list.
//!
//! `OVS_RS_SECTIONS=a,b` runs only these sections; `OVS_RS_OTHER=path` takes another daemon for ours.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::path::{Path, PathBuf};
use tests::differential::{STOCK, compare_all, parse_accepted, parse_script, unexcused};

const COMMANDS: &str = include_str!("../differential/commands.txt");
const ACCEPTED: &str = include_str!("../differential/accepted.txt");

fn ours() -> PathBuf {
    std::env::var_os("OVS_RS_OTHER").map_or_else(|| tests::daemon_binary().to_owned(), PathBuf::from)
}

#[test]
fn tools_print_the_same() {
    let stock = Path::new(STOCK);
    if !stock.exists() {
        println!("skipped: no {STOCK}");
        return;
    }
    let (ours, accepted) = (ours(), parse_accepted(ACCEPTED));
    let only = std::env::var("OVS_RS_SECTIONS").ok();
    let wanted = |name: &str| only.as_ref().is_none_or(|o| o.split(',').any(|s| s == name));
    let (mut used, mut bad) = (vec![false; accepted.len()], Vec::new());
    let script = parse_script(COMMANDS);
    let wanted_sections: Vec<_> = script.iter().filter(|s| wanted(&s.name)).collect();
    for d in compare_all(stock, &ours, &wanted_sections) {
        bad.extend(unexcused(d, &accepted, &mut used));
    }
    let stale = accepted.iter().zip(&used).filter(|(a, used)| !**used && wanted(&a.section));
    let stale: String = stale.map(|(a, _)| format!("[{}] {}\n", a.section, a.command)).collect();
    let list: String = bad.iter().map(ToString::to_string).collect();
    assert!(bad.is_empty(), "{} commands differ (- Debian's, + ours):\n{list}", bad.len());
    assert!(stale.is_empty(), "accepted.txt excuses what no longer differs:\n{stale}");
}

#[test]
fn the_script_is_long_enough_and_its_list_names_real_commands() {
    let script = parse_script(COMMANDS);
    assert!(script.iter().map(|s| s.commands.len()).sum::<usize>() >= 200);
    for a in parse_accepted(ACCEPTED) {
        let known = script.iter().any(|s| s.commands.iter().any(|c| a.concerns(&s.name, c)));
        assert!(known, "accepted.txt names no command: [{}] {}", a.section, a.command);
    }
}
