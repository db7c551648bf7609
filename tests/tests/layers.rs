//! The order of the crates, where `unsafe` may stand, and how long files may be.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// From the top: a lower crate never names a higher one.
const ORDER: [&str; 22] = [
    "benches",
    "tests",
    "vswitchd",
    "ofproto",
    "ovsdb-shim",
    "datapath",
    "conntrack",
    "netdev-dpdk",
    "netdev-vhost",
    "netdev",
    "dpif",
    "classifier",
    "openflow",
    "packet",
    "flow",
    "saved-state",
    "quiescent",
    "unixctl",
    "stream",
    "vlog",
    "coverage",
    "clock",
];

/// The crates that may hold `unsafe`, and the files or directories where they opt in.
const UNSAFE: [(&str, &str); 7] = [
    ("netdev", "src/sys"),
    ("netdev-vhost", "src/mem.rs"),
    ("netdev-dpdk", "src/ffi"),
    ("datapath", "src/cpu.rs"),
    ("quiescent", "src/lib.rs"),
    ("saved-state", "src/fds.rs"),
    // fork and signal dispositions have no safe form.
    ("vswitchd", "src/process/sys.rs"),
];
const LINES_MAX: usize = 1000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn packages() -> Vec<serde_json::Value> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--locked"]).current_dir(root());
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    value["packages"].as_array().unwrap().clone()
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The Rust files of a package: sources, tests, examples, benches.
fn sources(package: &serde_json::Value) -> Vec<PathBuf> {
    let dir = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
    let mut found = Vec::new();
    ["src", "tests", "examples", "benches"].iter().for_each(|d| files(&dir.join(d), &mut found));
    found
}

#[test]
fn lower_crates_never_name_higher_ones() {
    let place = |name: &str| ORDER.iter().position(|n| *n == name);
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let here = place(name).unwrap_or_else(|| panic!("{name} has no place in ORDER"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let other = dependency["name"].as_str().unwrap();
            if let Some(there) = place(other).filter(|_| !dependency["path"].is_null()) {
                assert!(there > here, "{name} names {other}, which is above it");
            }
        }
    }
}

#[test]
fn unsafe_stands_only_where_it_may() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let dir = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        let may = UNSAFE.iter().find(|(n, _)| *n == name).map(|(_, file)| dir.join(file));
        for file in sources(&package) {
            let text = fs::read_to_string(&file).unwrap();
            let opts_in = text.contains("allow(unsafe_code)") && !file.ends_with("layers.rs");
            let allowed = may.as_ref().is_some_and(|at| file.starts_with(at));
            assert!(allowed || !opts_in, "{} may not opt in to unsafe", file.display());
        }
        for target in package["targets"].as_array().unwrap().iter().filter(|_| may.is_none()) {
            let kind = target["kind"][0].as_str().unwrap();
            if kind == "lib" {
                let text = fs::read_to_string(target["src_path"].as_str().unwrap()).unwrap();
                assert!(text.contains("#![forbid(unsafe_code)]"), "{name} does not forbid unsafe");
            }
        }
    }
}

#[test]
fn files_are_short_and_reachable() {
    for package in packages() {
        let targets: BTreeSet<PathBuf> = package["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t["src_path"].as_str().unwrap().into())
            .collect();
        let all = sources(&package);
        let texts: Vec<(PathBuf, String)> =
            all.into_iter().map(|f| (f.clone(), fs::read_to_string(f).unwrap())).collect();
        for (file, text) in &texts {
            let lines = text.lines().count();
            assert!(lines <= LINES_MAX, "{} has {lines} lines", file.display());
            assert!(targets.contains(file) || is_named(file, &texts), "{} is not built", file.display());
        }
    }
}

/// Whether some file of the package has a `mod` of this file, or a `#[path]` to it.
fn is_named(file: &Path, texts: &[(PathBuf, String)]) -> bool {
    let stem = file.file_stem().unwrap().to_str().unwrap();
    let name =
        if stem == "mod" { file.parent().unwrap().file_name().unwrap().to_str().unwrap() } else { stem };
    let by_path = format!("{}\"]", file.file_name().unwrap().to_str().unwrap());
    let by_name = format!("mod {name};");
    texts.iter().any(|(other, text)| {
        let near = file.starts_with(other.parent().unwrap());
        other != file && near && (text.contains(&by_name) || text.contains(&by_path))
    })
}
