//! Actions against Debian's `ovs-ofctl`: `parse-actions` and `parse-instructions` turn bytes into text and
//! back into bytes, or name the error. What they print must be what this crate makes of the same bytes.

#![allow(clippy::unwrap_used)] // A test stops at what it does not expect.

use openflow::Version;
use openflow::action::{Decoder, Encoder, Parser, Text};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

const CORPUS: &str = include_str!("actions/corpus.txt");

/// One input, in both of the tool's commands.
#[derive(Clone, Debug)]
struct Case {
    version: Version,
    instructions: bool,
    bytes: Vec<u8>,
}

impl Case {
    fn hex(&self) -> String {
        self.bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// What the tool should print.
    fn expected(&self) -> String {
        let mut decoder = Decoder::new(self.version);
        let decoded =
            if self.instructions { decoder.instructions(&self.bytes) } else { decoder.actions(&self.bytes) };
        let decoded = decoded.and_then(|mut actions| {
            if self.instructions {
                check(&mut actions, self.version)?;
            }
            Ok(actions)
        });
        let actions = match decoded {
            Ok(actions) => actions,
            Err(e) => {
                let what = if self.instructions { "instructions" } else { "actions" };
                return format!("bad {} {what}: {}\n\n", self.version.protocols_name(), e.name());
            }
        };
        let mut out = String::from("actions=");
        Text::new(&mut out).actions(&actions);
        out.push('\n');
        let mut encoded = Vec::new();
        let mut encoder = Encoder::new(self.version, &mut encoded);
        if self.instructions {
            encoder.instructions(&actions)
        } else {
            encoder.actions(&actions)
        }
        differences(&self.bytes, &encoded, &mut out);
        out.push('\n');
        out
    }
}

/// The check that `parse-instructions` makes: of a flow that matches everything, in table 0.
fn check(actions: &mut [openflow::action::Action], version: Version) -> Result<(), openflow::OfError> {
    let any = flow::Match::catchall();
    let params = openflow::action::CheckParams {
        flow: &any.flow,
        mask: &any.mask,
        ports_max: openflow::PortNo::MAX,
        table_id: Some(0),
        n_tables: 255,
    };
    let needed = openflow::Protocol::ALL.into_iter().filter(|p| p.version() == version);
    let needed = needed.fold(openflow::Protocols::empty(), |set, p| set | p.as_set());
    openflow::action::check_consistency(actions, needed, &params).map(|_| ())
}

fn differences(a: &[u8], b: &[u8], out: &mut String) {
    for i in 0..a.len().max(b.len()) {
        let _ = match (a.get(i), b.get(i)) {
            (Some(x), Some(y)) if x == y => Ok(()),
            (Some(x), Some(y)) => writeln!(out, "{i:2}: {x:02x} -> {y:02x}"),
            (None, Some(y)) => writeln!(out, "{i:2}: (none) -> {y:02x}"),
            (Some(x), None) => writeln!(out, "{i:2}: {x:02x} -> (none)"),
            (None, None) => Ok(()),
        };
    }
}

/// What the tool prints for each of `cases`, which have the same version and command. `None` if it is not
/// installed.
fn ask(cases: &[&Case]) -> Option<Vec<String>> {
    let first = cases.first()?;
    let command = if first.instructions { "parse-instructions" } else { "parse-actions" };
    let mut child = Command::new("ovs-ofctl")
        .args(["-voff", command, first.version.protocols_name()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let input: String = cases.iter().map(|c| c.hex() + "\n").collect();
    let writer = std::thread::spawn(move || {
        // The tool may die of what it reads; then its answers are short.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.split_inclusive("\n\n").map(String::from).collect())
}

/// As [`ask`], with `None` for cases that the tool dies of.
fn ask_all(cases: &[&Case]) -> Option<Vec<Option<String>>> {
    let mut answers = Vec::new();
    while let Some(rest) = cases.get(answers.len()..).filter(|r| !r.is_empty()) {
        answers.extend(ask(rest)?.into_iter().map(Some));
        if answers.len() < cases.len() {
            answers.push(None);
        }
    }
    Some(answers)
}

/// Where this crate differs on purpose.
fn is_known_difference(case: &Case, ours: &str, theirs: &str) -> bool {
    // For a field that does not exist, Open vSwitch takes its error from fields that share a bucket of its
    // hash table.
    ours.contains("OFPBAC_BAD_SET_TYPE") && theirs.contains("OFPBAC_BAD_SET_LEN")
        // In `bundle_load`, it takes algorithms and fields that it does not know, and stops when it meets a
        // packet.
        || ours.contains("OFPBAC_BAD_ARGUMENT") && case.hex().contains("00002320000d")
}

/// Compares, and panics with the first differences.
fn compare(cases: &[Case]) {
    let mut wrong = String::new();
    let mut n_wrong = 0;
    for version in Version::ALL {
        for instructions in [false, true] {
            let group: Vec<&Case> =
                cases.iter().filter(|c| c.version == version && c.instructions == instructions).collect();
            if group.is_empty() {
                continue;
            }
            let Some(answers) = ask_all(&group) else {
                eprintln!("ovs-ofctl is not installed: nothing compared");
                return;
            };
            for (case, answer) in group.iter().zip(answers) {
                let ours = case.expected();
                if answer.as_ref().is_some_and(|a| *a != ours && !is_known_difference(case, &ours, a)) {
                    n_wrong += 1;
                    if n_wrong <= 20 {
                        let _ = writeln!(
                            wrong,
                            "{version} instructions={instructions} {}\n  ours: {ours:?}\n  ovs:  {answer:?}",
                            case.hex()
                        );
                    }
                }
            }
        }
    }
    assert!(n_wrong == 0, "{n_wrong} of {} differ:\n{wrong}", cases.len());
}

/// The corpus in every version, as actions and as instructions.
fn corpus() -> Vec<Case> {
    let mut cases = Vec::new();
    for line in CORPUS.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        for instructions in [false, true] {
            let mut parser = Parser::default();
            let parsed = if instructions { parser.instructions(line) } else { parser.actions(line) };
            let actions = match parsed {
                Ok(actions) => actions,
                // Not all instructions can stand among actions.
                Err(_) if !instructions => continue,
                Err(e) => panic!("{line}: {e}"),
            };
            for version in Version::ALL {
                let mut bytes = Vec::new();
                let mut encoder = Encoder::new(version, &mut bytes);
                if instructions {
                    encoder.instructions(&actions)
                } else {
                    encoder.actions(&actions)
                }
                // The tool does not answer to an empty line.
                if !bytes.is_empty() {
                    cases.push(Case { version, instructions, bytes });
                }
            }
        }
    }
    cases
}

#[test]
fn corpus_agrees() {
    let cases = corpus();
    assert!(cases.len() > 2000, "{} cases", cases.len());
    compare(&cases);
}

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        // Knuth's MMIX generator; its high bits are good enough.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    /// Some damage to `bytes`: now a single byte, now a length, now the end.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match self.below(6) {
            0 | 1 => bytes[self.below(len)] = self.below(256) as u8,
            2 => bytes[self.below(len)] ^= 1 << self.below(8),
            3 => {
                let at = 8 * self.below(len.div_ceil(8)) + 3;
                if let Some(b) = bytes.get_mut(at) {
                    *b = 8 * self.below(8) as u8;
                }
            }
            4 => bytes.truncate(8 * self.below(len.div_ceil(8)) + 8),
            _ => bytes.resize(len + 8 * self.below(3), 0),
        }
    }
}

#[test]
fn damaged_corpus_agrees() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(4);
    let mut random = Random(rounds);
    let mut cases = Vec::new();
    for _ in 0..rounds {
        for case in corpus() {
            let mut case = case;
            for _ in 0..=random.below(3) {
                random.damage(&mut case.bytes);
            }
            cases.push(case);
        }
    }
    compare(&cases);
}
