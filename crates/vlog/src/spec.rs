//! The words of `-v`, `--verbose` and `vlog/set`.

use crate::level::{Destination, Level};
use thiserror::Error;

/// Why a specification is refused. The texts are Open vSwitch's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SpecError {
    #[error("missing destination")]
    MissingDestination,
    #[error("unknown destination \"{0}\"")]
    UnknownDestination(String),
    #[error("invalid facility")]
    InvalidFacility,
    #[error("cannot specify multiple destinations")]
    MultipleDestinations,
    #[error("cannot specify multiple levels")]
    MultipleLevels,
    #[error("cannot specify multiple modules")]
    MultipleModules,
    #[error("no destination, level, or module \"{0}\"")]
    UnknownWord(String),
}

/// A specification, understood. `None` as module or destination means all of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Spec {
    Pattern { destination: Option<Destination>, pattern: String },
    Facility(u32),
    Level { module: Option<&'static str>, destination: Option<Destination>, level: Level },
}

/// Facilities and their codes (RFC 5424, table 1), already shifted to their place in a priority.
const FACILITIES: &[(&str, u32)] = &[
    ("kern", 0),
    ("user", 1 << 3),
    ("mail", 2 << 3),
    ("daemon", 3 << 3),
    ("auth", 4 << 3),
    ("syslog", 5 << 3),
    ("lpr", 6 << 3),
    ("news", 7 << 3),
    ("uucp", 8 << 3),
    ("clock", 9 << 3),
    ("ftp", 11 << 3),
    ("ntp", 12 << 3),
    ("audit", 13 << 3),
    ("alert", 14 << 3),
    ("clock2", 15 << 3),
    ("local0", 16 << 3),
    ("local1", 17 << 3),
    ("local2", 18 << 3),
    ("local3", 19 << 3),
    ("local4", 20 << 3),
    ("local5", 21 << 3),
    ("local6", 22 << 3),
    ("local7", 23 << 3),
];

/// Words are separated by any of these.
const SEPARATORS: [char; 4] = [' ', ',', ':', '\t'];

/// Takes the next word off `text`, and the one separator behind it.
fn next_word<'a>(text: &mut &'a str) -> Option<&'a str> {
    let start = text.trim_start_matches(SEPARATORS);
    let end = start.find(SEPARATORS).unwrap_or(start.len());
    let (word, rest) = start.split_at(end);
    *text = rest.get(1..).unwrap_or_default();
    (!word.is_empty()).then_some(word)
}

impl Spec {
    /// Reads a specification; `module` finds modules by name.
    pub fn parse(text: &str, module: impl Fn(&str) -> Option<&'static str>) -> Result<Spec, SpecError> {
        let mut rest = text;
        match next_word(&mut rest) {
            Some(word) if word.eq_ignore_ascii_case("PATTERN") => parse_pattern(rest),
            Some(word) if word.eq_ignore_ascii_case("FACILITY") => {
                let known = FACILITIES.iter().find(|(name, _)| name.eq_ignore_ascii_case(rest));
                known.map(|&(_, code)| Spec::Facility(code)).ok_or(SpecError::InvalidFacility)
            }
            _ => parse_levels(text, module),
        }
    }
}

fn parse_pattern(mut rest: &str) -> Result<Spec, SpecError> {
    let word = next_word(&mut rest).ok_or(SpecError::MissingDestination)?;
    let destination = if word.eq_ignore_ascii_case("ANY") {
        None
    } else {
        Some(Destination::named(word).ok_or_else(|| SpecError::UnknownDestination(word.to_owned()))?)
    };
    Ok(Spec::Pattern { destination, pattern: rest.to_owned() })
}

fn parse_levels(mut rest: &str, find: impl Fn(&str) -> Option<&'static str>) -> Result<Spec, SpecError> {
    let (mut module, mut destination, mut level) = (None, None, None);
    while let Some(word) = next_word(&mut rest) {
        if word.eq_ignore_ascii_case("ANY") {
            continue;
        }
        if let Some(found) = Destination::named(word) {
            set_once(&mut destination, found, SpecError::MultipleDestinations)?;
        } else if let Some(found) = Level::named(word) {
            set_once(&mut level, found, SpecError::MultipleLevels)?;
        } else if let Some(found) = find(word) {
            set_once(&mut module, found, SpecError::MultipleModules)?;
        } else {
            return Err(SpecError::UnknownWord(word.to_owned()));
        }
    }
    Ok(Spec::Level { module, destination, level: level.unwrap_or(Level::Dbg) })
}

fn set_once<T>(slot: &mut Option<T>, value: T, error: SpecError) -> Result<(), SpecError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Spec, String> {
        let find = |name: &str| ["dpif", "bridge"].into_iter().find(|m| m.eq_ignore_ascii_case(name));
        Spec::parse(text, find).map_err(|e| e.to_string())
    }

    #[test]
    fn levels() {
        let spec = |module, destination, level| Ok(Spec::Level { module, destination, level });
        assert_eq!(parse(""), spec(None, None, Level::Dbg));
        assert_eq!(parse("dpif"), spec(Some("dpif"), None, Level::Dbg));
        assert_eq!(parse("FILE:Dpif,off any"), spec(Some("dpif"), Some(Destination::File), Level::Off));
        assert_eq!(parse(":console::emer"), spec(None, Some(Destination::Console), Level::Emer));
    }

    #[test]
    fn errors_are_worded_as_in_open_vswitch() {
        for (text, error) in [
            ("foo:bar", "no destination, level, or module \"foo\""),
            ("syslog:file", "cannot specify multiple destinations"),
            ("dbg info", "cannot specify multiple levels"),
            ("dpif,bridge", "cannot specify multiple modules"),
            ("PATTERN", "missing destination"),
            ("pattern:all:", "unknown destination \"all\""),
            ("FACILITY:x", "invalid facility"),
            ("FACILITY:", "invalid facility"),
            ("facility", "invalid facility"),
        ] {
            assert_eq!(parse(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn patterns_and_facilities() {
        let pattern =
            |destination, pattern: &str| Ok(Spec::Pattern { destination, pattern: pattern.to_owned() });
        assert_eq!(
            parse("PATTERN:file:%D{%H:%M}|%m, x"),
            pattern(Some(Destination::File), "%D{%H:%M}|%m, x")
        );
        assert_eq!(parse("pattern any ::"), pattern(None, "::"));
        assert_eq!(parse("FACILITY:LOCAL3"), Ok(Spec::Facility(19 << 3)));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC*") {
            let _ = parse(&text);
            let _ = parse(&format!("PATTERN:{text}"));
        }
    }
}
