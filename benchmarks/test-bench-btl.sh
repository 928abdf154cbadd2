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
timeout 200 "${srcdir:-.}/bench-btl" --rounds 1 --time 5 --build "${builddir:-.}/.." --out "$dir/out" \
    >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
cat "$dir/out/table.txt"
for variant in ninja tcp ucx; do
    for metric in latency_us:13 rate_per_s:13 bandwidth_MBps:12 both_ways_MBps:12 allreduce_2_us:4 \
        alltoall_2_us:4 allreduce_4_us:4 alltoall_4_us:4; do
        count=$(awk -F, -v v=$variant -v m=${metric%:*} '$2 == v && $3 == m && $5 > 0' "$dir/out/raw.csv" | wc -l)
        [ "$count" = ${metric#*:} ] || { echo "FAIL: $count values of ${metric%:*} for $variant"; exit 1; }
    done
done
# 66 points, against two others.
[ "$(wc -l <"$dir/out/ratio.csv")" = 133 ] || { echo "FAIL: ratio.csv is not complete"; exit 1; }
grep -q '^Against the better of them: ' "$dir/out/table.txt" || { echo "FAIL: no summary"; exit 1; }
exit 0
