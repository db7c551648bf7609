//! The same commands against Debian's daemon and ours: what the tools print is the same, but for a list.
//!
//! `OVS_RS_SECTIONS=a,b` runs only these sections; `OVS_RS_OTHER=path` takes another daemon for ours.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::path::{Path, PathBuf};
use tests::differential::{STOCK, compare, parse_accepted, parse_script};

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
    let (mut seen, mut bad) = (Vec::new(), Vec::new());
    for section in parse_script(COMMANDS).iter().filter(|s| wanted(&s.name)) {
        for d in compare(stock, &ours, section) {
            match accepted.iter().position(|a| a.section == d.section && d.command.contains(&a.command)) {
                Some(i) => seen.push(i),
                None => bad.push(d),
            }
        }
    }
    for (i, a) in accepted.iter().enumerate() {
        if only.is_none() && !seen.contains(&i) {
            println!("no longer differs: [{}] {}", a.section, a.command);
        }
    }
    let list: String = bad.iter().map(ToString::to_string).collect();
    assert!(bad.is_empty(), "{} commands differ (- Debian's, + ours):\n{list}", bad.len());
}

#[test]
fn the_script_is_long_enough_and_its_list_names_real_commands() {
    let script = parse_script(COMMANDS);
    assert!(script.iter().map(|s| s.commands.len()).sum::<usize>() >= 200);
    for a in parse_accepted(ACCEPTED) {
        let known =
            script.iter().any(|s| s.name == a.section && s.commands.iter().any(|c| c.contains(&a.command)));
        assert!(known, "accepted.txt names no command: [{}] {}", a.section, a.command);
    }
}
