#!/bin/bash
# The demo is killed by SIGKILL while it builds, makes the cloud, runs the job and moves a VM; the next one always runs.
# SPDX-License-Identifier: BSD-3-Clause
#
# By hand: it takes five to six minutes, and the demo's own directories (out/demo, build-demo).
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
lab=$top/lab/lab
state=/run/ninja-demo
log=$(mktemp)
demo=

skip() {
    echo "SKIP: $*"
    exit 77
}
fail() {
    echo "FAIL: $*"
    tail -n 20 "$log"
    exit 1
}
finish() {
    local status=$?
    trap - EXIT
    [ -z "$demo" ] || kill -KILL "$demo" 2>/dev/null
    timeout 120 "$top/demo.sh" --down >/dev/null || status=1
    rm -f "$log"
    exit "$status"
}

[ "$(id -u)" -eq 0 ] || skip "the demo needs root"
"$top/lab/install-packages" --check >/dev/null 2>&1 || skip "packages missing; run lab/install-packages"
[ ! -e "$state" ] || skip "a demo's cloud is up; ./demo.sh --down removes it"
trap finish EXIT
trap 'exit 143' TERM INT HUP

# kill_when PATTERN SECONDS: starts the demo and kills it, and it alone, so long after its output has PATTERN.
kill_when() {
    local n
    "$top/demo.sh" >"$log" 2>&1 </dev/null &
    demo=$!
    for ((n = 0; n < 6000; n++)); do
        ! grep -qE "$1" "$log" || break
        kill -0 "$demo" 2>/dev/null || fail "the demo ended before '$1'"
        sleep 0.1
    done
    sleep "$2"
    kill -KILL "$demo" || fail "the demo ended before it could be killed"
    wait "$demo" 2>/dev/null
    demo=
    echo "ok: killed $2 s after '$1': $(tail -n 1 "$log")"
}

# What a demo must not leave; names of its processes' files are the state directory's.
left() {
    local link
    [ ! -e "$state" ] || echo "directory $state"
    pgrep -af -- "$state|$top/build-demo" | grep -v pgrep
    grep " $state" /proc/self/mounts
    ls -d /sys/fs/cgroup/{cpu/,}"ninja-lab-$(stat -c %i /)-$(printf %s "$state" | sha256sum | cut -c1-8)" 2>/dev/null
}

kill_when '== .*building' 3
kill_when 'hosts: private-a' 0.5
kill_when 'restoring|booting' 2
kill_when 'left to run for a moment' 1
kill_when 'moving the cluster to' 4
kill_when 'moving the cluster to' 9
# Stalls are the demo's own business, and the machine's.
timeout 900 "$top/demo.sh" >"$log" 2>&1 </dev/null
jq -r '.checks[] | (if .ok then "ok: " else "not ok: " end) + .what' "$top/out/demo/report.json" || fail "no report"
jq -e '[.checks[] | select(.what | test("stall") | not) | .ok] | length > 5 and all' "$top/out/demo/report.json" >/dev/null ||
    fail "the demo after all this"
[ -z "$(left)" ] || fail "left: $(left)"
echo "ok: nothing is left"
exit 0
