#!/bin/bash
# bench-move measures a job over btl/ninja and one over btl/tcp while a guest moves, and leaves nothing behind.
# SPDX-License-Identifier: BSD-3-Clause
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
[[ $(id -u) = 0 ]] || { echo "SKIP: the lab needs root"; exit 77; }
"$top/lab/install-packages" --check >/dev/null 2>&1 || { echo "SKIP: packages missing; run lab/install-packages"; exit 77; }
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
fail() {
    echo "FAIL: $*"
    exit 1
}

before=$(ls -d /run/nb-* 2>/dev/null)
timeout 280 "$top/benchmarks/bench-move" --rounds 1 --build "${builddir:-.}/.." --out "$dir/out" >"$dir/log" 2>&1 ||
    fail "$(cat "$dir/log")"
cat "$dir/out/table.txt"
for variant in ninja tcp; do
    for metric in stall_there_us stall_back_us; do
        # A VM that moves stands still for longer than 50 ms, and no job for a minute.
        awk -F, -v v=$variant -v m=$metric '$2 == v && $3 == m && $5 > 50000 && $5 < 60000000 { n++ } END { exit n != 1 }' \
            "$dir/out/raw.csv" || fail "no sensible $metric of $variant: $(cat "$dir/out/raw.csv")"
    done
done
[[ $(ls -d /run/nb-* 2>/dev/null) = "$before" ]] || fail "a lab is left: $(ls -d /run/nb-*)"
grep -q '^Against tcp: ' "$dir/out/table.txt" || fail "no summary"
exit 0
