#!/bin/bash
# Tests that nothing breaks, and nothing is sent needlessly, while a job is silent for 30 seconds.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
seconds=${NINJA_SILENCE_SECONDS:-30}
netns_up
netns_observer_start
netns_mpirun_start 2 "$netns_programs/ninja-soak" --duration 3 --idle "$seconds" --stall-limit 10 \
    --max-size 1M --observer "$netns_observer" --json "$netns_dir/soak.json"
netns_until 20 netns_ranks_listen 2 || netns_fail "the ranks do not listen"
sleep 4
before=$(($(netns_bytes a fast0) + $(netns_bytes a eth0)))
sleep 5
after=$(($(netns_bytes a fast0) + $(netns_bytes a eth0)))
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
echo "$((after - before)) bytes in 5 s of silence"
[ $((after - before)) -lt 20000 ] || netns_fail "the silence was not silent"
jq -e ".duration_s > $seconds and .duration_s < $seconds + 10" "$netns_dir/soak.json" >/dev/null ||
    netns_fail "the job did not go on right after the silence"
exit 0
