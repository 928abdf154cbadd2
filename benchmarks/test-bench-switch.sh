#!/bin/bash
# Tests that bench-switch measures switches under each kind of traffic.
# SPDX-License-Identifier: BSD-3-Clause
set -u
[ "$(id -u)" = 0 ] || { echo "SKIP: network namespaces need root"; exit 77; }
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
timeout 200 "${srcdir:-.}/bench-switch" --switches 4 --ranks '' --build "${builddir:-.}/.." --out "$dir/out" \
    >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
cat "$dir/out/table.txt"
for kind in idle latency bandwidth; do
    for direction in down up; do
        count=$(awk -F, -v k=$kind -v d=$direction '$1 == k && $3 == d && $4 > 0' "$dir/out/gap.csv" | wc -l)
        [ "$count" -ge 2 ] || { echo "FAIL: $count switches $direction with $kind traffic"; exit 1; }
    done
done
exit 0
