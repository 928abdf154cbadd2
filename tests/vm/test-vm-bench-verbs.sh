#!/bin/bash
# bench-verbs measures both variants between two guests and compares them, and what did not run over verbs is a failure.
# SPDX-License-Identifier: BSD-3-Clause
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
[[ $(id -u) = 0 ]] || { echo "SKIP: the lab needs root"; exit 77; }
"$top/lab/install-packages" --check >/dev/null 2>&1 || { echo "SKIP: packages missing; run lab/install-packages"; exit 77; }
if ldd "${builddir:-.}/../benchmarks/btl-probe" | grep -q libasan; then
    echo "SKIP: the speed of a sanitizer build tells nothing"
    exit 77
fi
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
fail() {
    echo "FAIL: $*"
    exit 1
}
bench() {
    timeout 400 "$top/benchmarks/bench-verbs" --rounds 1 --time 5 --max 1024 --build "${builddir:-.}/.." --out "$dir/out" \
        "$@" >"$dir/log" 2>&1
}

bench || fail "$(cat "$dir/log")"
cat "$dir/out/table.txt"
for variant in ninja ucx; do
    for metric in latency_us:6 rate_per_s:6 bandwidth_MBps:5 both_ways_MBps:5 allreduce_2_us:2 alltoall_2_us:2 \
        allreduce_4_us:2 alltoall_4_us:2; do
        count=$(awk -F, -v v=$variant -v m=${metric%:*} '$2 == v && $3 == m && $5 > 0' "$dir/out/raw.csv" | wc -l)
        [[ $count = "${metric#*:}" ]] || fail "$count values of ${metric%:*} for $variant"
    done
done
[[ $(wc -l <"$dir/out/ratio.csv") = 31 ]] || fail "ratio.csv is not complete"
grep -q '^Against ucx: ' "$dir/out/table.txt" || fail "no summary"

# The handshake of the path over verbs is over before it can end: the job runs over TCP.
bench --mca '--mca btl_ninja_open_limit 0' && fail "a run over TCP passes: $(cat "$dir/log")"
grep -q 'ninja with 2 ranks did not run over verbs' "$dir/log" || fail "$(cat "$dir/log")"
exit 0
