//! Options as GNU getopt_long(3) reads them: abbreviations, `--name=value` and `--name value`, bundled short options,
//! options behind other arguments, `--`. The error texts are the C library's.

use std::collections::VecDeque;
use thiserror::Error;

/// Whether an option takes an argument. An optional one must be attached: `--name=value`, `-nvalue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Argument,
    OptionalArgument,
}

/// One line of the table of options.
#[derive(Debug)]
pub(super) struct Spec<Id> {
    pub long: &'static str,
    pub short: Option<char>,
    pub takes: Takes,
    pub id: Id,
}

/// What is wrong with an option.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum GetoptError {
    #[error("unrecognized option '--{0}'")]
    Unrecognized(String),
    #[error("option '--{name}' is ambiguous; possibilities:{candidates}")]
    Ambiguous { name: String, candidates: String },
    #[error("option '--{0}' doesn't allow an argument")]
    UnwantedArgument(&'static str),
    #[error("option '--{0}' requires an argument")]
    MissingArgument(&'static str),
    #[error("invalid option -- '{0}'")]
    Invalid(char),
    #[error("option requires an argument -- '{0}'")]
    ShortMissingArgument(char),
}

/// Walks over a command line.
pub(super) struct Getopt<'a, Id> {
    specs: &'a [Spec<Id>],
    args: VecDeque<String>,
    /// The rest of a word of bundled short options.
    bundle: String,
    /// Arguments that are no options.
    pub operands: Vec<String>,
}

impl<'a, Id: Copy> Getopt<'a, Id> {
    /// `args` is without the program's name.
    pub fn new(specs: &'a [Spec<Id>], args: impl IntoIterator<Item = String>) -> Self {
        let args = args.into_iter().collect();
        Getopt { specs, args, bundle: String::new(), operands: Vec::new() }
    }

    /// The next option and its argument; `None` at the end, when `operands` is complete.
    pub fn next_option(&mut self) -> Result<Option<(Id, Option<String>)>, GetoptError> {
        if !self.bundle.is_empty() {
            return self.short().map(Some);
        }
        while let Some(word) = self.args.pop_front() {
            if word == "--" {
                self.operands.extend(self.args.drain(..));
            } else if let Some(long) = word.strip_prefix("--") {
                return self.long(long).map(Some);
            } else if word.len() > 1 && word.starts_with('-') {
                self.bundle = word.chars().skip(1).collect();
                return self.short().map(Some);
            } else {
                self.operands.push(word);
            }
        }
        Ok(None)
    }

    fn long(&mut self, word: &str) -> Result<(Id, Option<String>), GetoptError> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        let spec = self.find_long(name, word)?;
        let value = match (spec.takes, value) {
            (Takes::Nothing, Some(_)) => return Err(GetoptError::UnwantedArgument(spec.long)),
            (Takes::Argument, None) => {
                Some(self.args.pop_front().ok_or(GetoptError::MissingArgument(spec.long))?)
            }
            (_, value) => value,
        };
        Ok((spec.id, value))
    }

    /// An exact name, or the beginning of one name only. `word` is what the operator wrote.
    fn find_long(&self, name: &str, word: &str) -> Result<&'a Spec<Id>, GetoptError> {
        if let Some(exact) = self.specs.iter().find(|s| s.long == name) {
            return Ok(exact);
        }
        let matches: Vec<_> = self.specs.iter().filter(|s| s.long.starts_with(name)).collect();
        match matches.as_slice() {
            [] => Err(GetoptError::Unrecognized(word.to_owned())),
            [one] => Ok(one),
            many => {
                let candidates = many.iter().map(|s| format!(" '--{}'", s.long)).collect();
                Err(GetoptError::Ambiguous { name: word.to_owned(), candidates })
            }
        }
    }

    fn short(&mut self) -> Result<(Id, Option<String>), GetoptError> {
        let mut chars = self.bundle.chars();
        let letter = chars.next().unwrap_or('-');
        let rest = chars.as_str().to_owned();
        let Some(spec) = self.specs.iter().find(|s| s.short == Some(letter)) else {
            self.bundle = rest;
            return Err(GetoptError::Invalid(letter));
        };
        if spec.takes == Takes::Nothing {
            self.bundle = rest;
            return Ok((spec.id, None));
        }
        self.bundle.clear();
        let value = match (rest.is_empty(), spec.takes) {
            (false, _) => Some(rest),
            (true, Takes::Argument) => {
                Some(self.args.pop_front().ok_or(GetoptError::ShortMissingArgument(letter))?)
            }
            (true, _) => None,
        };
        Ok((spec.id, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPECS: &[Spec<u8>] = &[
        Spec { long: "help", short: Some('h'), takes: Takes::Nothing, id: b'h' },
        Spec { long: "verbose", short: Some('v'), takes: Takes::OptionalArgument, id: b'v' },
        Spec { long: "disable-system", short: None, takes: Takes::Nothing, id: b'd' },
        Spec { long: "disable-system-route", short: None, takes: Takes::Nothing, id: b'r' },
        Spec { long: "ca-cert", short: Some('C'), takes: Takes::Argument, id: b'C' },
    ];

    type Found = Vec<(char, Option<String>)>;

    fn run(line: &str) -> Result<(Found, Vec<String>), String> {
        let mut getopt = Getopt::new(SPECS, line.split_whitespace().map(str::to_owned));
        let mut found = Vec::new();
        while let Some((id, value)) = getopt.next_option().map_err(|e| e.to_string())? {
            found.push((char::from(id), value));
        }
        Ok((found, getopt.operands))
    }

    #[test]
    fn forms_of_options() {
        let some = |s: &str| Some(s.to_owned());
        let (found, operands) =
            run("a -hvX --v=dbg --verb b --disable-system --disable-system-r -C f --ca g --ca-cert= - -- -h")
                .unwrap();
        let expected = [
            ('h', None),
            ('v', some("X")),
            ('v', some("dbg")),
            ('v', None),
            ('d', None),
            ('r', None),
            ('C', some("f")),
            ('C', some("g")),
            ('C', some("")),
        ];
        assert_eq!(found, expected);
        assert_eq!(operands, ["a", "b", "-", "-h"]);
    }

    #[test]
    fn errors_are_worded_as_by_the_c_library() {
        for (line, error) in [
            ("--foo=3", "unrecognized option '--foo=3'"),
            ("-hx", "invalid option -- 'x'"),
            (
                "--dis",
                "option '--dis' is ambiguous; possibilities: '--disable-system' '--disable-system-route'",
            ),
            ("--he=1", "option '--help' doesn't allow an argument"),
            ("--ca", "option '--ca-cert' requires an argument"),
            ("-C", "option requires an argument -- 'C'"),
        ] {
            assert_eq!(run(line), Err(error.to_owned()), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in "(-{0,3}[a-zC=é ]{0,9}){0,5}") {
            let _ = run(&line);
        }
    }
}
