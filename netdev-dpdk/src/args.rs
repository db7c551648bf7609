//! EAL's command line out of `Open_vSwitch.other_config` (ovs-vswitchd.conf.db(5)).

use netdev::StringMap;
use tracing::{error, warn};

/// `other_config:dpdk-init`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Init {
    No,
    /// A failure is an error.
    Yes,
    /// A failure is expected.
    Try,
}

impl Init {
    pub fn of(other_config: &StringMap) -> Self {
        match other_config.get("dpdk-init").map(|v| v.to_ascii_lowercase()).as_deref() {
            Some("true") => Init::Yes,
            Some("try") => Init::Try,
            _ => Init::No,
        }
    }
}

/// Keys and EAL's names for them.
const OPTIONS: [(&str, &str); 3] =
    [("dpdk-lcore-mask", "-c"), ("dpdk-hugepage-dir", "--huge-dir"), ("dpdk-socket-limit", "--socket-limit")];
/// As above; one of these at most, the last one given counts.
const MEMORY: [(&str, &str); 2] = [("dpdk-alloc-mem", "-m"), ("dpdk-socket-mem", "--socket-mem")];

const SINGLE_FILE: &str = "--single-file-segments";

/// The arguments behind the program's name. `core` is where EAL's main thread goes unless the configuration
/// says otherwise; the flag tells whether it does not.
pub fn eal_args(other_config: &StringMap, core: usize) -> (Vec<String>, bool) {
    let mut args = other_config.get("dpdk-extra").map(|extra| words(extra)).unwrap_or_default();
    let add = |args: &mut Vec<String>, option: &str, value: &str| {
        if args.iter().any(|a| a == option) {
            warn!(target: "dpdk", "Ignoring database defined option '{option}' due to dpdk-extra config");
        } else {
            args.extend([option, value].map(str::to_owned));
        }
    };
    for (key, option) in OPTIONS {
        if let Some(value) = other_config.get(key) {
            add(&mut args, option, value);
        }
    }
    let given = |key: &str| other_config.get(key).filter(|v| !v.is_empty());
    let memory: Vec<_> = MEMORY.iter().filter_map(|(key, option)| Some((option, given(key)?))).collect();
    if memory.len() > 1 {
        error!(
            target: "dpdk",
            "Multiple defined options for memory type. Please check your database settings and reconfigure if \
             necessary."
        );
    }
    if let Some((option, value)) = memory.last() {
        add(&mut args, option, value);
    }
    // EAL refuses the one together with the others.
    if !args.iter().any(|a| ["--in-memory", "--legacy-mem", "--no-huge"].contains(&a.as_str())) {
        args.push("--in-memory".to_owned());
        // One file for all pages of a kind is there sooner than one for each, and takes one descriptor.
        if !args.iter().any(|a| a == SINGLE_FILE) {
            args.push(SINGLE_FILE.to_owned());
        }
    }
    let is_ours = !args.iter().any(|a| a == "-c" || a == "-l");
    if is_ours {
        args.extend(["-l".to_owned(), core.to_string()]);
    }
    (args, is_ours)
}

/// Splits words as a shell does: blanks, quotes, backslashes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => word.get_or_insert_default().extend(chars.next()),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (None, c) if c.is_ascii_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(pairs: &[(&str, &str)]) -> String {
        let map = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        eal_args(&map, 3).0.join(" ")
    }

    #[test]
    fn command_lines_are_those_of_open_vswitch() {
        assert_eq!(args(&[]), "--in-memory --single-file-segments -l 3");
        assert_eq!(
            args(&[("dpdk-extra", "--no-huge -m 512"), ("dpdk-lcore-mask", "0x1")]),
            "--no-huge -m 512 -c 0x1"
        );
        assert_eq!(
            args(&[
                ("dpdk-socket-mem", "1024,0"),
                ("dpdk-hugepage-dir", "/h"),
                ("dpdk-socket-limit", "2048")
            ]),
            "--huge-dir /h --socket-limit 2048 --socket-mem 1024,0 --in-memory --single-file-segments -l 3"
        );
        assert_eq!(
            args(&[("dpdk-alloc-mem", "64"), ("dpdk-extra", "-m 128 -l 0")]),
            "-m 128 -l 0 --in-memory --single-file-segments"
        );
        assert_eq!(
            args(&[("dpdk-alloc-mem", "64"), ("dpdk-socket-mem", "32")]),
            "--socket-mem 32 --in-memory --single-file-segments -l 3"
        );
        assert_eq!(args(&[("dpdk-extra", "--legacy-mem")]), "--legacy-mem -l 3");
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        assert_eq!(words(r#" a  "b c" d\ e 'f"\g' "" "x\"y" "#), ["a", "b c", "d e", "f\"\\g", "", "x\"y"]);
        assert_eq!(words("unclosed 'quote here"), ["unclosed", "quote here"]);
    }

    #[test]
    fn init_is_yes_no_or_try() {
        let of = |v: &str| Init::of(&[("dpdk-init".to_owned(), v.to_owned())].into());
        assert_eq!(
            ["true", "TRUE", "try", "false", "1"].map(of),
            [Init::Yes, Init::Yes, Init::Try, Init::No, Init::No]
        );
        assert_eq!(Init::of(&StringMap::new()), Init::No);
    }
}
