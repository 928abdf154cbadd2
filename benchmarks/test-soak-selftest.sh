#!/bin/bash
# Tests that ninja-soak passes on stock Open MPI, and fails for every fault that it injects.
# SPDX-License-Identifier: BSD-3-Clause
set -u
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# AddressSanitizer builds: Open MPI itself leaks at exit.
export ASAN_OPTIONS=detect_leaks=0

# Runs ninja-soak with two ranks and the options given; its result goes to $dir/result.
soak() {
    timeout -k 5 60 mpirun --oversubscribe -np 2 --mca pml ob1 --mca btl tcp,self \
        --mca btl_tcp_if_include lo --mca oob_tcp_if_include lo --mca mpi_yield_when_idle 1 \
        "${builddir:-.}/ninja-soak" --max-size 1M --json "$dir/result" "$@" >"$dir/log" 2>&1
}

# Fails the test, showing the log.
fail() {
    echo "FAIL: $*"
    cat "$dir/log" "$dir/result"
    exit 1
}

soak --duration 1 || fail "a run without faults failed"
[ "$(jq -r .result "$dir/result")" = ok ] || fail "the result is not ok"
[ "$(jq .messages_sent "$dir/result")" -gt 100 ] || fail "hardly anything was sent"
jq -e '.messages_sent == .messages_verified' "$dir/result" >/dev/null || fail "not all is verified"

# fault and the counter that must tell of it
while read -r fault counter; do
    rm -f "$dir/result"
    soak --duration 0.5 --inject "$fault" && fail "the fault '$fault' was not noticed"
    [ "$(jq ".$counter" "$dir/result")" -gt 0 ] || fail "the fault '$fault' was not counted"
done <<'END'
flip corrupt
drop lost
duplicate duplicated
reorder reordered
late overwritten
END

soak --duration 5 --inject stall --stall-limit 2 && fail "the stall was not noticed"
grep -q 'STALLED: rank 0 .* batch' "$dir/log" || fail "the stall was not reported"
exit 0
