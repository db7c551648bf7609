//! The pattern language of ovs-appctl(8): what a line of the log looks like.

use crate::level::Level;
use chrono::{DateTime, Local, TimeZone, Utc};
use std::fmt::{Display, Write};

/// Columns of one field, at most.
const MAX_WIDTH: usize = 4096;
/// strftime pattern of `%d` and `%D` without braces.
const DEFAULT_TIME: &str = "%Y-%m-%d %H:%M:%S.###";

/// One message and all that a pattern may say about it.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub program: &'a str,
    /// Facility and severity for `%B`.
    pub priority: u32,
    pub module: &'a str,
    pub level: Level,
    pub message: &'a str,
    /// The how manieth message of its thread this is.
    pub number: u32,
    pub wall_ms: i64,
    /// Time since the program started.
    pub uptime_ms: u64,
    /// Empty for the main thread.
    pub thread: &'a str,
}

/// A field's minimum width and how it is filled up.
#[derive(Clone, Copy, Default)]
struct Width {
    columns: usize,
    left: bool,
    zeros: bool,
}

impl Line<'_> {
    /// Writes the line in the form of `pattern`, without a newline.
    pub fn format(&self, pattern: &str) -> String {
        let mut out = String::with_capacity(pattern.len() + self.message.len() + 64);
        let mut rest = pattern;
        while let Some(at) = rest.find('%') {
            let (before, escape) = rest.split_at(at);
            out.push_str(before);
            rest = escape.get(1..).unwrap_or_default();
            let width = take_width(&mut rest);
            let start = out.len();
            self.field(&mut rest, &mut out);
            pad(&mut out, start, width);
        }
        out.push_str(rest);
        out
    }

    /// Writes what the escape at the start of `rest` stands for, and takes the escape off.
    fn field(&self, rest: &mut &str, out: &mut String) {
        let mut chars = rest.chars();
        let Some(escape) = chars.next() else { return };
        *rest = chars.as_str();
        match escape {
            'A' => out.push_str(self.program),
            'B' => put(out, self.priority),
            'c' => {
                take_braces(rest);
                out.push_str(self.module);
            }
            'd' => out.push_str(&format_time(&Local, take_braces(rest), self.wall_ms)),
            'D' => out.push_str(&format_time(&Utc, take_braces(rest), self.wall_ms)),
            'E' => out.push_str(&hostname()),
            'm' => out.push_str(self.message.trim_end_matches('\n')),
            'N' => put(out, self.number),
            'n' => out.push('\n'),
            'p' => out.push_str(self.level.name()),
            'P' => put(out, std::process::id()),
            'r' => put(out, self.uptime_ms),
            't' => out.push_str(if self.thread.is_empty() { "main" } else { self.thread }),
            'T' if self.thread.is_empty() => {}
            'T' => put(out, format_args!("({})", self.thread)),
            other => out.push(other),
        }
    }
}

fn put(out: &mut String, value: impl Display) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{value}");
}

fn take_width(rest: &mut &str) -> Width {
    let mut width = Width::default();
    if let Some(after) = rest.strip_prefix('-') {
        (width.left, *rest) = (true, after);
    }
    if let Some(after) = rest.strip_prefix('0') {
        (width.zeros, *rest) = (true, after);
    }
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = rest.len() - after.len();
    width.columns =
        rest.get(..digits).and_then(|d| d.parse().ok()).unwrap_or(if digits == 0 { 0 } else { MAX_WIDTH });
    *rest = after;
    width
}

fn pad(out: &mut String, start: usize, width: Width) {
    let used = out.len() - start;
    let missing = width.columns.min(MAX_WIDTH).saturating_sub(used);
    let fill = if width.zeros { "0" } else { " " }.repeat(missing);
    out.insert_str(if width.left { out.len() } else { start }, &fill);
}

/// The text in braces, if braces follow. An open brace reaches to the end.
fn take_braces<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let inner = rest.strip_prefix('{')?;
    let (text, after) = inner.split_once('}').unwrap_or((inner, ""));
    *rest = after;
    Some(text)
}

/// strftime(3) with `#` for digits of the second's fraction. A pattern that strftime does not know stands for itself.
fn format_time<Tz: TimeZone>(zone: &Tz, pattern: Option<&str>, wall_ms: i64) -> String
where
    Tz::Offset: Display,
{
    let pattern = pattern.unwrap_or(DEFAULT_TIME);
    let time = DateTime::from_timestamp_millis(wall_ms).unwrap_or_default().with_timezone(zone);
    let mut text = String::new();
    if write!(text, "{}", time.format(pattern)).is_err() {
        return pattern.to_owned();
    }
    let fraction = format!("{:03}", wall_ms.rem_euclid(1000));
    let mut digits = fraction.chars();
    let digit = |c| {
        if c == '#' {
            return digits.next().unwrap_or('0');
        }
        digits = fraction.chars();
        c
    };
    text.chars().map(digit).collect()
}

fn hostname() -> String {
    nix::unistd::gethostname().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Destination;
    use proptest::prelude::*;

    fn line() -> Line<'static> {
        Line {
            program: "ovs-vswitchd",
            priority: 16 * 8 + 6,
            module: "dpif",
            level: Level::Info,
            message: "hello\n",
            number: 7,
            wall_ms: 1_700_000_000_042,
            uptime_ms: 1234,
            thread: "",
        }
    }

    #[test]
    fn default_patterns() {
        let text = |d: Destination| line().format(d.default_pattern());
        assert_eq!(text(Destination::File), "2023-11-14T22:13:20.042Z|00007|dpif|INFO|hello");
        assert_eq!(text(Destination::Console), "2023-11-14T22:13:20Z|00007|dpif|INFO|hello");
        assert_eq!(text(Destination::Syslog), "ovs|00007|dpif|INFO|hello");
        let handler = Line { thread: "handler4", ..line() };
        assert_eq!(handler.format("%c%T|%t|%n"), "dpif(handler4)|handler4|\n");
    }

    #[test]
    fn escapes_and_widths() {
        for (pattern, expected) in [
            ("%A %B %p", "ovs-vswitchd 134 INFO"),
            ("[%10c][%-10c][%010N][%2c]", "[      dpif][dpif      ][0000000007][dpif]"),
            ("%c{5}%%%x%", "dpif%x"),
            ("%t%T%r", "main1234"),
            ("%D{%H:%M:%S.##### %h %e}x", "22:13:20.04200 Nov 14x"),
            ("%D", "2023-11-14 22:13:20.042"),
            ("%D{%Q}", "%Q"),
            ("%D{%H", "22"),
            ("%-05N|", "70000|"),
        ] {
            assert_eq!(line().format(pattern), expected, "{pattern}");
        }
        assert_eq!(line().format("%P"), std::process::id().to_string());
        assert_eq!(line().format("%99999999999999999999999c").len(), MAX_WIDTH);
    }

    proptest! {
        #[test]
        fn any_pattern_is_survived(pattern in "(%|-|0|[A-Za-z{}]|\\PC){0,20}") {
            line().format(&pattern);
        }
    }
}
