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
            let Some(answers) = ask(&group) else {
                eprintln!("ovs-ofctl is not installed: nothing compared");
                return;
            };
            assert_eq!(answers.len(), group.len(), "answers of ovs-ofctl for {version}");
            for (case, answer) in group.iter().zip(answers) {
                let ours = case.expected();
                if ours != answer {
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
