# A job under ninja-soak while faults are injected; sourced by the tests of the faults.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"

# Runs a job of $1 ranks with the faults $2 once for each seed that follows, each time until $3 faults of
# each kind have been done. NINJA_FAULT_SECONDS (default 3) is the least length of a run;
# NINJA_FAULT_SEED, if set, replaces the seeds.
fault_run() {
    local ranks=$1 rates=$2 least=$3 seconds=${NINJA_FAULT_SECONDS:-3} seed
    shift 3
    netns_up
    for seed in ${NINJA_FAULT_SEED:-"$@"}; do
        fault_run_once "$ranks" "$rates" "$least" "$seconds" "$seed"
    done
}

# Writes what the ranks have met so far to faults.json; true once it is $2 faults of each kind in $1, and what they must
# lead to.
fault_enough() {
    local kind
    netns_rankctl status --json >"$netns_dir/status.json" &&
        jq -c 'def sum(f): [.. | f // empty] | add;
            [.. | .fault? // empty | .injected | to_entries[]] as $all |
            {injected: ($all | group_by(.key) | map({(.[0].key): map(.value) | add}) | add),
             replayed: sum(.replayed?), duplicates: sum(.duplicates?),
             reconnects: sum(.reconnects?), switches: sum(.switches?)}' "$netns_dir/status.json" \
            >"$netns_dir/faults.json" || return 1
    for kind in $(tr ',' '\n' <<<"$1" | sed -n 's/=.*//p' | grep -vxE 'hold|gone'); do
        jq -e ".injected.$kind >= $2" "$netns_dir/faults.json" >/dev/null || return 1
        case $kind in
        drop | reset | kill) jq -e '.replayed > 0' "$netns_dir/faults.json" >/dev/null || return 1 ;;
        duplicate) jq -e '.duplicates > 0' "$netns_dir/faults.json" >/dev/null || return 1 ;;
        esac
    done
}

fault_run_once() {
    local ranks=$1 rates=$2 least=$3 seconds=$4 seed=$5
    rm -f "$netns_control"/*.sock "$netns_dir/soak.json"
    NETNS_MCA=(--mca btl_ninja_fault "$rates${seed:+,seed=$seed}" --mca btl_ninja_verbose "${fault_verbose:-1}")
    NETNS_LIMIT=$((seconds + 40))
    netns_mpirun_start "$ranks" "$netns_programs/ninja-soak" --duration 0 --seed "${seed:-1}" \
        --max-size "${NINJA_FAULT_SIZE:-8M}" --stall-limit 15 --json "$netns_dir/soak.json"
    netns_until 40 netns_ranks_listen "$ranks" || netns_fail "the ranks do not listen"
    sleep "$seconds"
    netns_until 20 fault_enough "$rates" "$least" ||
        netns_fail "hardly any fault was injected, or nothing came of them: $(cat "$netns_dir/faults.json")"
    netns_soak_stop
    netns_mpirun_wait || netns_fail "the job failed with $rates,seed=$seed"
    netns_check_soak "$netns_dir/soak.json"
    grep -q "fault injection is on; to repeat it: .*seed=$seed" "$netns_dir/job.log" ||
        netns_fail "the seed is not told"
    echo "$rates,seed=$seed: $(cat "$netns_dir/faults.json")"
}
