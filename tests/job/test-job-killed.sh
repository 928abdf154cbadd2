#!/bin/bash
# Tests that a job whose rank is killed ends as Open MPI ends it, with its message, also during a release.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
netns_up

# Kills rank 1 and, if $1 is "release", lets rank 0 release its fabric at the same time.
killed() {
    local start took status release=''
    rm -f "$netns_control"/*.sock
    NETNS_LIMIT=40
    netns_mpirun_start 2 "$netns_programs/ninja-soak" --duration 30 --json "$netns_dir/soak.json"
    netns_until 20 netns_ranks_listen 2 || netns_fail "the ranks do not listen"
    sleep 0.7
    start=$SECONDS
    kill -KILL "$(netns_rank_pids ninja-soak b)"
    if [ "$1" = release ]; then
        # It may succeed, or find the rank gone; it must not hang.
        timeout 8 "$netns_top/symvirt/ninja-rankctl" --dir "$netns_control" --rank 0 release fast \
            >"$netns_dir/release.log" 2>&1
        release=$?
        [ $release -ne 124 ] || netns_fail "the release hung"
    fi
    netns_mpirun_wait
    status=$?
    took=$((SECONDS - start))
    echo "killed ${1:-}: the job ended after $took s with exit code $status${release:+, release said $release}"
    [ $status -ne 0 ] && [ $status -ne 124 ] || netns_fail "the job did not fail as it should"
    [ $took -lt 10 ] || netns_fail "the job took $took s to end"
    # Where the message breaks its lines depends on the series of Open MPI.
    tr -s '\n ' '  ' <"$netns_dir/job.log" | grep -q 'exited on signal 9' ||
        netns_fail "Open MPI's message about the killed rank is missing"
    [ -z "$(netns_rank_pids ninja-soak a)" ] || netns_fail "rank 0 is still there"
}

killed ''
killed release
exit 0
