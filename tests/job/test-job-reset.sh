#!/bin/bash
# Tests that connections which are reset by force are made again with nothing lost, on lifeline and fabric.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
NETNS_OOB=mgmt0 # Open MPI's own connections must live
netns_up
ip netns exec "$netns_prefix-a" ss -K dst 10.77.1.99 >/dev/null 2>&1 ||
    netns_skip "this kernel cannot destroy sockets (ss -K)"
netns_mpirun_start 4 "$netns_programs/ninja-soak" --duration 0 --stall-limit 10 \
    --json "$netns_dir/soak.json"
netns_until 20 netns_ranks_listen 4 || netns_fail "the ranks do not listen"
sleep 0.5

# Resets all connections between the ranks on network $1 for a while, on either host by turns;
# prints how many there were.
resets() {
    local host killed=0 round
    for round in 1 2 3 4 5 6 7 8 9 10; do
        for host in a b; do
            killed=$((killed + $(ip netns exec "$netns_prefix-$host" \
                ss -HK state established "src 10.77.$1.0/24 and dst 10.77.$1.0/24" 2>/dev/null | wc -l)))
            sleep 0.1
        done
    done
    echo "$killed"
}

fast=$(resets 2)
netns_rankctl release fast || netns_fail "release failed"
lifeline=$(resets 1)
netns_rankctl resume fast || netns_fail "resume failed"
netns_soak_stop
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
echo "connections reset: $fast on the fast fabric, $lifeline on the lifeline"
[ "$fast" -ge 2 ] || netns_fail "nothing was reset on the fast fabric"
[ "$lifeline" -ge 20 ] || netns_fail "lifelines did not come back between the resets"
exit 0
