#!/bin/bash
# Tests that ninja-observer sees a rank that is stopped, in the right window, and only there.
# SPDX-License-Identifier: BSD-3-Clause
set -u
build=${builddir:-.}
dir=$(mktemp -d) || exit 99
observer='' job=''
# Ends what was started.
cleanup() {
    [ -z "$job" ] || kill "$job" 2>/dev/null
    [ -z "$observer" ] || kill "$observer" 2>/dev/null
    wait
    rm -rf "$dir"
}
trap cleanup EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ASAN_OPTIONS=detect_leaks=0

fail() {
    echo "FAIL: $*"
    cat "$dir"/*.log "$dir"/*.json
    exit 1
}

"$build/ninja-observer" --listen 127.0.0.1:0 --port-file "$dir/port" --csv "$dir/beats.csv" \
    --json "$dir/observer.json" 2>"$dir/observer.log" &
observer=$!
for _ in $(seq 100); do [ -s "$dir/port" ] && break; sleep 0.05; done
address=127.0.0.1:$(cat "$dir/port") || fail "the observer did not start"

timeout -k 5 60 mpirun --oversubscribe -np 2 --mca pml ob1 --mca btl tcp,self \
    --mca btl_tcp_if_include lo --mca oob_tcp_if_include lo --mca mpi_yield_when_idle 1 \
    "$build/ninja-soak" --duration 4 --rate 400 --max-size 10K --observer "$address" \
    --json "$dir/soak.json" >"$dir/soak.log" 2>&1 &
job=$!
for _ in $(seq 200); do
    "$build/ninja-observer" --report "$address" | jq -e '.heartbeats > 20' >/dev/null && break
    sleep 0.05
done

"$build/ninja-observer" --mark "$address" quiet || fail "--mark failed"
sleep 0.5
quiet=$("$build/ninja-observer" --unmark "$address" quiet | jq .longest_stall_s)
"$build/ninja-observer" --mark "$address" stopped || fail "--mark failed"
rank=$(pgrep -f "ninja-soak .*--observer $address" | while read -r pid; do
    [ "$(cat "/proc/$pid/comm")" = ninja-soak ] && echo "$pid"
done | head -n 1)
kill -STOP "$rank" && sleep 0.7
kill -CONT "$rank"
sleep 0.2
stopped=$("$build/ninja-observer" --unmark "$address" stopped | jq .longest_stall_s)
"$build/ninja-observer" --unmark "$address" nothing 2>/dev/null && fail "there is no such window"
wait "$job" || fail "the job failed"
job=''
kill -TERM "$observer" && wait "$observer" || fail "the observer did not end well"
observer=''

echo "quiet $quiet s, stopped $stopped s"
# On a busy machine ranks wait for the processor; but not as long as the stop took.
jq -n -e "$quiet < 0.4" >/dev/null || fail "a stall of $quiet s was seen where none was"
jq -n -e "$stopped > 0.65 and $stopped < 1.5" >/dev/null || fail "0.7 s were seen as $stopped s"
jq -e '.longest_stall_s > 0.65' "$dir/soak.json" >/dev/null || fail "ninja-soak did not learn of it"
jq -e '(.sources | length) == 2 and .windows[1].label == "stopped" and
       .windows[1].longest_stall_s > 0.65 and all(.sources[]; .ended)' \
    "$dir/observer.json" >/dev/null || fail "the result is not right"
[ "$(wc -l <"$dir/beats.csv")" -gt 200 ] || fail "the time series has hardly any lines"
exit 0
