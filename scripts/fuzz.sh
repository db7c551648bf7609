#!/usr/bin/env bash
# Runs fuzz targets with the stable compiler. Usage: scripts/fuzz.sh [target|all] [seconds each, 300]
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all} seconds=${2:-300}
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
export RUSTC_BOOTSTRAP=1 # libFuzzer's instrumentation is an unstable compiler flag
python3 fuzz/seeds.py
targets=$what
[ "$what" = all ] && targets=$(cargo fuzz list)
for target in $targets; do
    mkdir -p "fuzz/corpus/$target"
    echo "== $target, $seconds s"
    cargo fuzz run --sanitizer none "$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=0 -verbosity=0
done
