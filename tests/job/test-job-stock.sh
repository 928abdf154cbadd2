#!/bin/bash
# Tests the harness itself: ranks on stock btl/tcp sit on two hosts and use the fabric that they are told to.
# SPDX-License-Identifier: BSD-3-Clause
NINJA_TEST_TRANSPORT=tcp-fast
. "${srcdir:-.}/lib/netns.sh"
netns_up switch
netns_observer_start

fast=$(netns_bytes a fast0) eth=$(netns_bytes a eth0)
netns_mpirun_start 4 "$netns_programs/ninja-soak" --duration 0 --rate 400 --max-size 100K \
    --observer "$netns_observer" --json "$netns_dir/soak.json" --stall-limit 10
netns_until 20 netns_verified 100 || netns_fail "the job does not run"
[ "$(netns_rank_pids ninja-soak a | wc -l)" = 2 ] || netns_fail "host a has not two ranks"
[ "$(netns_rank_pids ninja-soak b | wc -l)" = 2 ] || netns_fail "host b has not two ranks"

# A cut must be felt, and end when the fabric is healed: so the switch works, and the observer.
netns_observe --mark cut
netns_cut fast0
sleep 0.6
netns_heal fast0
sleep 1
cut=$(netns_observe --unmark cut | jq .longest_stall_s)
netns_soak_stop
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
fast=$(($(netns_bytes a fast0) - fast)) eth=$(($(netns_bytes a eth0) - eth))
echo "fast0 $fast bytes, eth0 $eth bytes, stall by the cut $cut s"
# Ranks of different hosts must not share memory, or no test would test anything.
[ "$fast" -gt 1000000 ] || netns_fail "hardly any traffic on fast0"
[ "$eth" -lt 500000 ] || netns_fail "the job's data went over eth0"
jq -n -e "$cut > 0.5" >/dev/null || netns_fail "the cut was not felt"
[ "$(find "$netns_dir" -maxdepth 1 -name 'ompi.*' | wc -l)" = 0 ] || echo "session directories are left"
exit 0
