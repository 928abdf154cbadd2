#!/bin/bash
# Tests that a run whose seed nobody chose can be repeated by what it prints: the same frames meet the fault again.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/job/fault.sh"
unset NINJA_FAULT_SEED
netns_up
fault_verbose=2

# The frames of the job before that met the fault, those that rank $1 sent, in their order. (How many control frames there
# are is a matter of time.)
frames_hit() {
    sed -nE "s/.*ninja [0-9]+\\.$1 [0-9]+: fault: duplicate, frame ([0-9]+) to .*/\\1/p" "$netns_dir/job.log"
}

fault_run_once 2 duplicate=5 300 1 ''
again=$(sed -n 's/.*to repeat it: --mca btl_ninja_fault \(.*\),seed=\([0-9]*\)$/\1 \2/p' "$netns_dir/job.log" | head -n 1)
[ -n "$again" ] || netns_fail "the job does not say how to repeat it"
for rank in 0 1; do
    frames_hit $rank >"$netns_dir/first-$rank"
done
echo "again: $again"
fault_run_once 2 "${again% *}" 300 1 "${again#* }"
for rank in 0 1; do
    frames_hit $rank >"$netns_dir/second-$rank"
    # The runs are not equally long.
    both=$(wc -l <"$netns_dir/first-$rank") second=$(wc -l <"$netns_dir/second-$rank")
    [ "$both" -le "$second" ] || both=$second
    [ "$both" -ge 20 ] || netns_fail "only $both frames of rank $rank met the fault in both runs"
    cmp <(head -n "$both" "$netns_dir/first-$rank") <(head -n "$both" "$netns_dir/second-$rank") ||
        netns_fail "other frames of rank $rank met the fault"
    echo "rank $rank: the same $both frames"
done
exit 0
