#!/bin/bash
# Tests that a rank releases its fabric at once while it, or its peer, computes outside MPI.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
netns_up
# Nearly all the time rank 1 computes and rank 0 waits for it.
netns_mpirun_start 2 "$netns_programs/ninja-soak" --duration 0 --compute 2500 --compute-rank 1 \
    --stall-limit 15 --max-size 1M --json "$netns_dir/soak.json"
netns_until 20 netns_ranks_listen 2 || netns_fail "the ranks do not listen"

# Prints the processor time that process $1 has used in user mode, in ticks.
ticks() {
    sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 12
}

sleep 1
longest=0 computing=0
rank1=$(netns_rank_pids ninja-soak b)
for round in 1 2 3 4 5 6; do
    for rank in 0 1; do
        for action in release resume; do
            before=$(ticks "$rank1") start=$(date +%s%N)
            netns_rankctl --rank $rank $action fast || netns_fail "rank $rank: $action failed"
            took=$((($(date +%s%N) - start) / 1000000))
            [ "$took" -le "$longest" ] || longest=$took
            sleep 0.1
            [ $(($(ticks "$rank1") - before)) -lt 5 ] || computing=$((computing + 1))
        done
    done
done
netns_soak_stop
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
echo "24 operations, rank 1 computing in at least $computing of them, the longest took $longest ms"
[ "$computing" -ge 6 ] || netns_fail "rank 1 hardly ever computed"
[ "$longest" -lt 2000 ] || netns_fail "an operation took $longest ms"
exit 0
