#!/bin/bash
# Tests that a release does not need the peer: it is stopped by SIGSTOP, and goes on later with nothing lost.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
netns_up
netns_mpirun_start 2 "$netns_programs/ninja-soak" --duration 0 --stall-limit 15 \
    --json "$netns_dir/soak.json"
netns_until 20 netns_ranks_listen 2 || netns_fail "the ranks do not listen"
sleep 1
for round in 1 2; do
    peer=$(netns_rank_pids ninja-soak b)
    kill -STOP "$peer"
    sleep 0.2
    start=$(date +%s%N)
    netns_rankctl --rank 0 release fast || netns_fail "release failed while the peer was stopped"
    took=$((($(date +%s%N) - start) / 1000000))
    left=$(ip netns exec "$netns_prefix-a" ss -Htnp src 10.77.2.1 | grep ninja-soak)
    [ -z "$left" ] || netns_fail "rank 0 has sockets on the released fabric: $left"
    echo "release with a stopped peer: $took ms"
    [ "$took" -lt 2000 ] || netns_fail "the release took $took ms"
    sleep 0.3
    kill -CONT "$peer"
    sleep 0.5
    netns_rankctl --rank 0 resume fast || netns_fail "resume failed"
    sleep 0.3
done
netns_soak_stop
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
exit 0
