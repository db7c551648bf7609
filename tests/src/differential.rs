//! Runs one script against two daemons and compares what the tools print.
//!
//! A script is a text of sections, `[name]`, and of shell commands, one a line (`\` at a line's end goes on). Every
//! section has a fresh sandbox on either side. `#` starts a comment at a line's beginning.

use crate::Sandbox;
use regex::Regex;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Where Debian's package has its daemon.
pub const STOCK: &str = "/usr/lib/openvswitch-switch/ovs-vswitchd";

/// What daemons are started with unless a section says otherwise.
const DAEMON_OPTIONS: [&str; 2] = ["--enable-dummy=override", "--disable-system"];

/// Some commands that share a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    /// What the daemons are started with: a line `%daemon ...`, or [`DAEMON_OPTIONS`].
    pub daemon: Vec<String>,
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
            let daemon = DAEMON_OPTIONS.map(str::to_owned).to_vec();
            sections.push(Section { name: name.to_owned(), daemon, commands: Vec::new() });
        } else if let Some(options) = line.strip_prefix("%daemon ") {
            let section = sections.last_mut().expect("a section first");
            section.daemon = options.split_whitespace().map(str::to_owned).collect();
        } else {
            sections.last_mut().expect("a section first").commands.push(line.to_owned());
        }
    }
    sections
}

/// A difference that is known: four columns separated by ` | `.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub section: String,
    /// A whole command, or, after `~`, a pattern for whole commands.
    pub command: String,
    matcher: Regex,
    /// Lines that one daemon may print and the other not.
    pub lines: Regex,
    pub reason: String,
}

fn whole(pattern: &str) -> Regex {
    Regex::new(&format!("^(?:{pattern})$")).unwrap_or_else(|e| panic!("{pattern}: {e}"))
}

impl Accepted {
    fn parse(line: &str) -> Self {
        let columns: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [section, command, lines, reason] = columns[..] else { panic!("four columns, not: {line}") };
        assert!(!reason.is_empty(), "no reason: {line}");
        let pattern = command.strip_prefix('~').map_or_else(|| regex::escape(command), str::to_owned);
        Accepted {
            section: section.into(),
            command: command.into(),
            matcher: whole(&pattern),
            lines: whole(lines),
            reason: reason.into(),
        }
    }

    /// Whether this is about that command.
    pub fn concerns(&self, section: &str, command: &str) -> bool {
        self.section == section && self.matcher.is_match(command)
    }

    /// Whether the daemons differ in lines that this is about.
    fn excuses(&self, d: &Difference) -> bool {
        let of = |text: &str| text.lines().filter(|l| self.lines.is_match(l)).map(str::to_owned).collect();
        let (stock, ours): (Vec<String>, Vec<String>) = (of(&d.stock), of(&d.ours));
        self.concerns(&d.section, &d.command) && stock != ours
    }
}

/// Reads the list of accepted differences.
pub fn parse_accepted(text: &str) -> Vec<Accepted> {
    let lines = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
    lines.map(Accepted::parse).collect()
}

/// What is left of a difference once the lines that `accepted` excuses are taken out, if anything is; notes in
/// `used` which of them were needed.
pub fn unexcused(mut d: Difference, accepted: &[Accepted], used: &mut [bool]) -> Option<Difference> {
    let mine: Vec<_> = accepted.iter().enumerate().filter(|(_, a)| a.excuses(&d)).collect();
    for (i, a) in mine {
        used[i] = true;
        let keep = |text: &str| -> String {
            text.lines().filter(|l| !a.lines.is_match(l)).map(|l| l.to_owned() + "\n").collect()
        };
        (d.stock, d.ours) = (keep(&d.stock), keep(&d.ours));
    }
    (d.stock != d.ours).then_some(d)
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
            // A tool that a busy machine kept waiting says so.
            (r"(?m)^TIME\|\d+\|(timeval|coverage|poll_loop)\|.*\n", ""),
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

/// Puts the records of ports and queues that follow each other in order, which is that of a hash table.
fn sort_port_records(text: &str) -> String {
    let mut out = String::new();
    let mut records: Vec<String> = Vec::new();
    let flush = |records: &mut Vec<String>, out: &mut String| {
        records.sort_unstable();
        records.drain(..).for_each(|r| out.push_str(&r));
    };
    for line in text.split_inclusive('\n') {
        let line = if line.ends_with('\n') { line.to_owned() } else { line.to_owned() + "\n" };
        match records.last_mut() {
            _ if line.starts_with("  port ") => records.push(line),
            Some(record) if line.starts_with("    ") => record.push_str(&line),
            _ => {
                flush(&mut records, &mut out);
                out.push_str(&line);
            }
        }
    }
    flush(&mut records, &mut out);
    out
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
    let options: Vec<&str> = section.daemon.iter().map(String::as_str).collect();
    let sandbox = Sandbox::with_daemon(daemon, &options);
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
        for (sign, line) in edits(&stock, &ours).into_iter().filter(|(sign, _)| *sign != ' ') {
            writeln!(f, "  {sign} {line}")?;
        }
        Ok(())
    }
}

/// The shortest way from `a` to `b`, line by line: kept (` `), taken out (`-`) and put in (`+`).
fn edits<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<(char, &'a str)> {
    // common[i][j]: how many lines a[i..] and b[j..] share in order.
    let mut common = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] =
                if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            out.push((' ', a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || i < a.len() && common[i + 1][j] >= common[i][j + 1] {
            out.push(('-', a[i]));
            i += 1;
        } else {
            out.push(('+', b[j]));
            j += 1;
        }
    }
    out
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

/// Sections that run at a time: their commands wait more than they work.
const AT_ONCE: usize = 3;

/// Runs sections on both sides; the differences come in the order of the sections.
pub fn compare_all(stock: &Path, ours: &Path, sections: &[&Section]) -> Vec<Difference> {
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(usize, Vec<Difference>)>> = Mutex::default();
    let work = || {
        loop {
            let at = next.fetch_add(1, Relaxed);
            let Some(section) = sections.get(at) else { return };
            let differences = compare(stock, ours, section);
            found.lock().expect("no other failed").push((at, differences));
        }
    };
    std::thread::scope(|scope| {
        (0..AT_ONCE).for_each(|_| drop(scope.spawn(work)));
    });
    let mut found = found.into_inner().expect("no thread failed");
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().flat_map(|(_, differences)| differences).collect()
}
