//! Runs one script against two daemons and compares what the tools print.
//!
//! A script is a text of sections, `[name]`, and of shell commands, one a line (`\` at a line's end goes on). Every
//! section has a fresh sandbox on either side. `#` starts a comment at a line's beginning.

use crate::Sandbox;
use regex::Regex;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

/// Where Debian's package has its daemon.
pub const STOCK: &str = "/usr/lib/openvswitch-switch/ovs-vswitchd";

/// Some commands that share a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub commands: Vec<String>,
}

/// Reads a script.
pub fn parse_script(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let joined = text.replace("\\\n", "");
    for line in joined.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let header = line.strip_prefix('[').and_then(|l| l.strip_suffix(']'));
        if let Some(name) = header.filter(|n| !n.contains(' ')) {
            sections.push(Section { name: name.to_owned(), commands: Vec::new() });
        } else {
            sections.last_mut().expect("a section first").commands.push(line.to_owned());
        }
    }
    sections
}

/// A difference that is known: section, part of the command, reason; three columns separated by ` | `.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub section: String,
    pub command: String,
    pub reason: String,
}

/// Reads the list of accepted differences.
pub fn parse_accepted(text: &str) -> Vec<Accepted> {
    let lines = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
    let row = |line: &str| {
        let columns: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [section, command, reason] = columns[..] else { panic!("three columns, not: {line}") };
        assert!(!reason.is_empty(), "no reason: {line}");
        Accepted { section: section.into(), command: command.into(), reason: reason.into() }
    };
    lines.map(row).collect()
}

/// What may differ between two runs of the same daemon, made equal.
pub struct Masks(Vec<(Regex, &'static str)>, Regex);

impl Default for Masks {
    fn default() -> Self {
        let table = [
            (r"duration=[0-9.]+s", "duration=Xs"),
            (r"duration_sec=\d+", "duration_sec=X"),
            (r"duration_nsec=\d+", "duration_nsec=X"),
            (r"(idle|hard)_age=\d+", "${1}_age=X"),
            (r"xid=0x[0-9a-f]+", "xid=X"),
            (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
            (r"used:(\d+\.\d+s|never)", "used:X"),
            (r"ovs-vswitchd\.\d+\.ctl", "ovs-vswitchd.PID.ctl"),
            (r"ovs-vswitchd\|\d+\|", "ovs-vswitchd|N|"),
            (r"recirc_id\(0x[1-9a-f][0-9a-f]*\)", "recirc_id(ID)"),
            (r"recirc_id=[1-9]\d*", "recirc_id=ID"),
            (r"recirc\(0x[0-9a-f]+\)", "recirc(ID)"),
            (r"\d+\.\d{3}ms", "Nms"),
            // A dummy's address counts the devices that were ever opened, ours fewer.
            (r"aa:55:aa:55:00:[01][0-9a-f]\b", "aa:55:aa:55:00:XX"),
            // How a refused version ends depends on who closes first.
            (r"failed to connect to socket \((Broken pipe|Protocol error)\)", "failed to connect to socket"),
        ];
        let compile = |pattern| Regex::new(pattern).expect("a good pattern");
        let ports = compile(r"\b\d+(,\d+)+\b");
        Masks(table.into_iter().map(|(pattern, with)| (compile(pattern), with)).collect(), ports)
    }
}

impl Masks {
    pub fn apply(&self, text: &str, directory: &Path) -> String {
        let text = text.replace(&directory.display().to_string(), "DIR");
        let text = self.0.iter().fold(text, |t, (pattern, with)| pattern.replace_all(&t, *with).into_owned());
        // The order of a flood's ports is that of a hash table.
        let sorted = |run: &regex::Captures<'_>| {
            let mut ports: Vec<&str> = run[0].split(',').collect();
            ports.sort_unstable();
            ports.join(",")
        };
        sort_port_records(&self.1.replace_all(&text, sorted))
    }
}

/// Puts the records of a `dump-ports` in order, which is that of a hash table.
fn sort_port_records(text: &str) -> String {
    let mut records = text.split("\n  port ");
    let first = records.next().unwrap_or_default().to_owned();
    let mut records: Vec<&str> = records.map(|r| r.trim_end_matches('\n')).collect();
    if records.is_empty() {
        return text.to_owned();
    }
    records.sort_unstable();
    records.iter().fold(first, |all, r| all + "\n  port " + r) + "\n"
}

/// What one command printed, masked, errors and exit code included.
pub fn run_command(sandbox: &Sandbox, command: &str, masks: &Masks) -> String {
    let mut shell = sandbox.command("timeout");
    shell.args(["-k", "1", "30", "sh", "-c", command]).stdin(Stdio::null());
    let output = shell.output().expect("a shell");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    let _ = write!(text, "{}", String::from_utf8_lossy(&output.stderr));
    if let Some(code) = output.status.code().filter(|c| *c != 0) {
        let _ = writeln!(text, "exit: {code}");
    }
    masks.apply(&text, sandbox.directory())
}

/// Runs a section in a sandbox of its own with this daemon; one text per command.
pub fn run_section(daemon: &Path, section: &Section, masks: &Masks) -> Vec<String> {
    let sandbox = Sandbox::with_daemon(daemon, &["--enable-dummy=override", "--disable-system"]);
    let texts = section.commands.iter().map(|c| run_command(&sandbox, c, masks)).collect();
    sandbox.end_background();
    texts
}

/// A command on which the two daemons differ.
#[derive(Debug)]
pub struct Difference {
    pub section: String,
    pub command: String,
    pub stock: String,
    pub ours: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "[{}] {}", self.section, self.command)?;
        let (stock, ours): (Vec<_>, Vec<_>) = (self.stock.lines().collect(), self.ours.lines().collect());
        for line in stock.iter().filter(|l| !ours.contains(l)) {
            writeln!(f, "  - {line}")?;
        }
        for line in ours.iter().filter(|l| !stock.contains(l)) {
            writeln!(f, "  + {line}")?;
        }
        if stock.iter().all(|l| ours.contains(l)) && ours.iter().all(|l| stock.contains(l)) {
            writeln!(f, "  order or number of lines:\n{}\n  ---\n{}", self.stock, self.ours)?;
        }
        Ok(())
    }
}

/// Runs a section on both sides at once.
pub fn compare(stock: &Path, ours: &Path, section: &Section) -> Vec<Difference> {
    let masks = Masks::default();
    let (a, b) = std::thread::scope(|scope| {
        let stock = scope.spawn(|| run_section(stock, section, &masks));
        let ours = run_section(ours, section, &masks);
        (stock.join().expect("the stock side"), ours)
    });
    let both = section.commands.iter().zip(a.into_iter().zip(b));
    let differing = both.filter(|(_, (stock, ours))| stock != ours);
    differing
        .map(|(command, (stock, ours))| Difference {
            section: section.name.clone(),
            command: command.clone(),
            stock,
            ours,
        })
        .collect()
}
