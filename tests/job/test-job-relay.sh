#!/bin/bash
# Tests the harness itself: the relay delays what runs over it, by as much as it is told, and loses nothing.
# SPDX-License-Identifier: BSD-3-Clause
NINJA_TEST_TRANSPORT=tcp-fast
. "${srcdir:-.}/lib/netns.sh"
netns_up switch
netns_relay_start fast0

# Prints the latency of an empty message in microseconds.
latency() {
    netns_mpirun 2 "$netns_programs/ninja-pingpong" --iterations 5 --max 100000 --min 100000 --check \
        >"$netns_dir/job.log" 2>&1 || netns_fail "the job failed"
    awk '$1 == "0" { print int($3) }' "$netns_dir/job.log"
}

quick=$(latency)
netns_relay_command delay 40
slow=$(latency)
echo "latency: $quick us, with a delay of 40 ms: $slow us"
[ "$quick" -lt 20000 ] || netns_fail "the relay is slow by itself"
[ "$slow" -ge 40000 ] && [ "$slow" -lt 70000 ] || netns_fail "the relay does not delay by 40 ms"
[ ! -s "$netns_dir/relay.log" ] || netns_fail "the relay complains"
exit 0
