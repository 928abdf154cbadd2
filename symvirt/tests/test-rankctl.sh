#!/bin/bash
# ninja-rankctl: all ranks of a directory at once, choices by job and rank, stale sockets, exit codes.
# SPDX-License-Identifier: BSD-3-Clause
set -u
rankctl=${RANKCTL:-./ninja-rankctl}
process=${CLIENT_PROCESS:-./tests/client-process}
directory=$(mktemp -d)
failures=0
pids=()

cleanup() {
    exec 9>&-
    for pid in "${pids[@]}"; do
        wait "$pid"
    done
    rm -rf "$directory"
}
trap cleanup EXIT

# expect WHAT WANTED_STATUS PATTERN COMMAND...: PATTERN must match a line of the output.
expect() {
    local what=$1 wanted=$2 pattern=$3 output status
    shift 3
    output=$(timeout 20 "$@" 2>&1)
    status=$?
    if [ "$status" -ne "$wanted" ] || ! grep -qE -- "$pattern" <<<"$output"; then
        printf 'FAILED: %s: exit %s, wanted %s and /%s/:\n%s\n' "$what" "$status" "$wanted" "$pattern" "$output"
        failures=$((failures + 1))
    fi
}

# start NAME MODE: a process with a control socket; ends when descriptor 9 is closed.
mkfifo "$directory/stdin"
exec 9<>"$directory/stdin"
start() {
    "$process" "$directory/r/$1.sock" - "$2" <"$directory/stdin" >"$directory/$1.out" 9>&- &
    pids+=($!)
    for _ in {1..100}; do
        grep -q ready "$directory/$1.out" && return
        sleep 0.02
    done
    echo "FAILED: $1 did not start"
    exit 1
}

expect "no directory" 3 'no rank found' "$rankctl" --dir "$directory/r" status
mkdir -m 0755 "$directory/r"
expect "open directory" 2 'only its owner' "$rankctl" --dir "$directory/r" status
chmod 0700 "$directory/r"
expect "empty directory" 3 'no rank found' "$rankctl" --dir "$directory/r" status
expect "no command" 2 'say release' "$rankctl"
expect "no fabric" 2 'FABRIC' "$rankctl" release
expect "hostile fabric" 2 'letters' "$rankctl" release ../x
expect "bad number" 2 'timeout needs a number' "$rankctl" --timeout soon status
expect "help" 0 'Exit status' "$rankctl" --help

start 4711.0 ok
start 4711.10 ok
start 47.11.2 ok
start 4712.0 fail
start 4713.0 silent
expect "status" 0 'job 47\.11 rank 2 pid [0-9]+: status ok after .*"mode":"ok"' "$rankctl" --dir "$directory/r" status
expect "release by name" 0 'job 4711 rank 10 .*release ok after' "$rankctl" --dir "$directory/r" --job 4711 release ib
expect "one rank" 0 'job 4711 rank 0 ' "$rankctl" --dir "$directory/r" --job 4711 --rank 0 resume ib --device rxe0 --epoch 7
grep -qx 'resume ib rxe0 7' "$directory/4711.0.out" || { echo "FAILED: device and epoch lost"; failures=$((failures + 1)); }
if grep -q resume "$directory/4711.10.out"; then echo "FAILED: --rank was ignored"; failures=$((failures + 1)); fi
expect "failure" 1 'job 4712 rank 0 .*release FAILED after .*told to fail' "$rankctl" --dir "$directory/r" --job 4712 release ib
expect "time limit" 1 'no answer within' "$rankctl" --dir "$directory/r" --job 4713 --timeout 0.3 release ib
expect "no wait" 0 'job 4713 rank 0 .*release ok$' "$rankctl" --dir "$directory/r" --job 4713 --no-wait release ib
expect "json" 1 '^5$' bash -c "$rankctl --dir $directory/r --timeout 0.3 --json release ib | jq length; exit \${PIPESTATUS[0]}"
NINJA_CONTROL_DIR=$directory/r expect "directory from the environment" 0 'rank 0' "$rankctl" --job 4711 status

# A process that was killed leaves its socket: said, and skipped.
kill -9 "${pids[0]}"
expect "stale socket" 0 'job 4711 rank 0 is gone' "$rankctl" --dir "$directory/r" --job 4711 status
expect "stale only" 3 'no rank found' "$rankctl" --dir "$directory/r" --job 4711 --rank 0 status

echo "$failures failures"
[ "$failures" -eq 0 ]
