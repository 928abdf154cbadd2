# A job under ninja-soak whose ranks switch transports at random; sourced by the tests of the storm.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"

# Runs the storm with $1 ranks; NINJA_STORM_SECONDS sets its length.
storm_run() {
    local ranks=$1 seconds=${NINJA_STORM_SECONDS:-60} fast eth
    netns_up
    netns_observer_start
    fast=$(netns_bytes a fast0) eth=$(netns_bytes a eth0)
    NETNS_LIMIT=$((seconds + 40))
    netns_mpirun_start "$ranks" "$netns_programs/ninja-soak" --duration $((seconds + 2)) \
        --seed "${NINJA_STORM_SEED:-$ranks}" --stall-limit 15 \
        --observer "$netns_observer" --json "$netns_dir/soak.json"
    timeout $((seconds + 30)) "$builddir/switch-storm" --dir "$netns_control" --ranks "$ranks" \
        --interval 50 --duration "$seconds" --seed "${NINJA_STORM_SEED:-$ranks}" \
        >"$netns_dir/storm.json" 2>"$netns_dir/storm.log" || netns_fail "the storm failed"
    cat "$netns_dir/storm.json"
    netns_mpirun_wait || netns_fail "the job failed"
    netns_check_soak "$netns_dir/soak.json"
    fast=$(($(netns_bytes a fast0) - fast)) eth=$(($(netns_bytes a eth0) - eth))
    echo "host a sent $fast bytes on fast0, $eth bytes on eth0"
    # Both transports must have carried a good part of it, or nothing was switched.
    [ "$fast" -gt 10000000 ] && [ "$eth" -gt 10000000 ] || netns_fail "a fabric was hardly used"
    jq -e ".releases > $seconds * 5 and .failed == 0" "$netns_dir/storm.json" >/dev/null ||
        netns_fail "there were too few switches"
    # Nobody may stand still for longer than a release that has to be forced.
    jq -e '.longest_stall_s < 3' "$netns_dir/soak.json" >/dev/null || netns_fail "ranks stood still"
}
