#!/bin/bash
# Tests that bench-btl measures all three transports at all sizes and compares them.
# SPDX-License-Identifier: BSD-3-Clause
set -u
[ "$(id -u)" = 0 ] || { echo "SKIP: network namespaces need root"; exit 77; }
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
if [ -n "$(ldd "${builddir:-.}/btl-probe" | grep libasan)" ]; then
    echo "SKIP: the speed of a sanitizer build tells nothing"
    exit 77
fi
timeout 120 "${srcdir:-.}/bench-btl" --rounds 1 --time 5 --build "${builddir:-.}/.." --out "$dir/out" \
    >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
cat "$dir/out/table.txt"
for variant in ninja tcp ucx; do
    for metric in latency_us bandwidth_MBps rate_per_s; do
        count=$(awk -F, -v v=$variant -v m=$metric '$2 == v && $3 == m && $5 >= 0' "$dir/out/raw.csv" | wc -l)
        [ "$count" = 12 ] || { echo "FAIL: $count values of $metric for $variant"; exit 1; }
    done
done
# No bandwidth at 0 bytes: 12 + 11 + 12 points, against two others.
[ "$(wc -l <"$dir/out/ratio.csv")" = 71 ] || { echo "FAIL: ratio.csv is not complete"; exit 1; }
exit 0
