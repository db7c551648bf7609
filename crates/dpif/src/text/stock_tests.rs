//! What we print and read against what Debian's daemon does.

use super::*;
use crate::frames::Rng;
use crate::samples;
use crate::stock::Stock;

/// Whether the daemon reads back what it prints of these: some it does not (its parser has no hash, MPLS,
/// Ethernet push or ERSPAN push, knows `recirc` in decimal only, and slow-path reasons by `|`).
fn daemon_can_read(text: &str) -> bool {
    const NO: [&str; 11] = [
        "hash(",
        "push_mpls(",
        "pop_mpls(",
        "push_eth(",
        "pop_eth",
        "teid=0x",
        "recirc(0x",
        "slow_path(",
        "sid=0x",
        "actions(drop)",
        "clone(drop)",
    ];
    !NO.iter().any(|n| text.contains(n))
}

#[test]
fn actions_are_those_of_the_daemon() {
    let Some(stock) = Stock::start("actions") else { return };
    let mut asked = 0;
    for seed in 0..3000 {
        let r = &mut Rng::new(seed);
        let mut actions = vec![samples::action(r, seed % samples::KINDS, 2)];
        actions.extend(samples::actions(r, 1));
        let text = actions_text(&actions, None);
        if daemon_can_read(&text) {
            let theirs = stock.appctl("dpctl/parse-actions", &[&text]);
            assert_eq!(theirs.as_deref().map(str::trim_end), Ok(text.as_str()));
            asked += 1;
        }
    }
    assert!(asked > 1000, "{asked}");
}

#[test]
fn megaflows_are_those_of_the_daemon() {
    let Some(stock) = Stock::start("megaflows") else { return };
    // Flows that it did not install itself it would remove at any time.
    assert!(stock.appctl("revalidator/pause", &[]).is_ok());
    for seed in 0..1500 {
        let mut key = samples::key(seed);
        key.in_port = 1;
        let is_nsh = key.dl_type == packet::proto::ethertype::NSH;
        if is_nsh || crate::key_attrs::is_nd(&key) && key.ct_nw_proto != 0 {
            // The daemon cannot read NSH, and forgets the connection's tuple of Neighbor Discovery.
            continue;
        }
        let mut mask = samples::mask(seed, &key);
        mask.in_port = u32::MAX;
        // Only what the text says of it.
        let said = flow_text(&key, &mask, &Style { verbose: true, ..Style::default() });
        let said = parse_key(&said, None).unwrap();
        let (key, mask) = (said.key, said.mask);
        let texts =
            [true, false].map(|verbose| flow_text(&key, &mask, &Style { verbose, ..Style::default() }));
        // The daemon does not read what it prints of this one either.
        let text = texts[0].replace("src_port=", "tp_src=").replace("dst_port=", "tp_dst=");
        let added = stock.appctl("dpctl/add-flow", &[&text, "2"]);
        assert_eq!(added, Ok(String::new()), "{}", texts[0]);
        for (flags, ours) in [&["-m"][..], &[]].into_iter().zip(&texts) {
            let dump = stock.appctl("dpctl/dump-flows", flags).unwrap();
            let line = dump.lines().nth(1).unwrap_or_default();
            let theirs = match flags {
                [] => line.split(", packets:").next(),
                _ => line.split(", packets:").next().and_then(|l| l.split_once(", ")).map(|l| l.1),
            };
            let ours =
                ours.replace("in_port(1)", if flags.is_empty() { "in_port(1)" } else { "in_port(p1)" });
            assert_eq!(theirs, Some(ours.as_str()), "seed {seed}");
        }
        assert!(stock.appctl("dpctl/del-flows", &[]).is_ok());
    }
}
