#!/usr/bin/env bash
# Runs every test: format, lints, unit and property tests, and whole-daemon tests against the real
# ovsdb-server and tools. As root on Debian 12; installs what the tests need.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "must be run as root: the tests make network namespaces" >&2; exit 1; }
scripts/prepare.sh test
PATH="$HOME/.cargo/bin:$PATH"
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo test --workspace --locked
