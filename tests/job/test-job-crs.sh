#!/bin/bash
# Tests that the checkpoint entry of crs/symvirt carries out releases under load, with nothing lost, and ends with ERROR where
# the device does not come back.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
[ -e "$netns_top/ompi-mca/components/mca_crs_symvirt.so" ] || netns_skip "this Open MPI has no crs framework"
netns_up
NETNS_MCA=(--mca crs symvirt --mca btl_ninja_open_limit 1000 --mca btl_ninja_verbose 1)
netns_mpirun_start 4 "$netns_programs/ninja-soak" --duration 0 --stall-limit 15 --max-size 1M \
    --json "$netns_dir/soak.json"
netns_until 40 netns_ranks_listen 4 || netns_fail "the ranks do not listen"

# True once $1 (a condition of jq) holds for all four ranks.
all_ranks() {
    netns_rankctl status --json | jq -e "[.. | select(.quiesce?)] | length == 4 and all(.[]; $1)" >/dev/null
}

netns_until 20 netns_links_are_on fast || netns_fail "the links never got to the fast fabric"
for round in 1 2 3 4 5 6 7 8; do
    netns_rankctl release fast >/dev/null || netns_fail "release failed"
    all_ranks '.quiesce.state == "RELEASED" and .fabrics[0].state == "DOWN"' ||
        netns_fail "a rank that has answered is not quiesced"
    sleep 0.2
    netns_rankctl resume fast >/dev/null || netns_fail "resume failed"
    netns_until 5 all_ranks ".quiesce.state == \"IDLE\" and .quiesce.count == $round" ||
        netns_fail "a checkpoint did not end with the resume"
done
all_ranks '.quiesce.failed == 0 and .quiesce.last == "resumed"' || netns_fail "a checkpoint ended with ERROR"

# The device of host a does not come back: its two ranks say so, and the job goes on.
netns_rankctl release fast >/dev/null || netns_fail "release failed"
ip -n "$netns_prefix-a" link set fast0 down
ip -n "$netns_prefix-a" link set fast0 name gone0
netns_rankctl resume fast >"$netns_dir/resume.log" && netns_fail "resumed without a device"
netns_until 10 all_ranks '.quiesce.state == "IDLE" and .quiesce.count == 9' ||
    netns_fail "a checkpoint did not end: $(cat "$netns_dir/resume.log")"
two_ended_with_error() {
    [ "$(grep -c 'crs/symvirt: checkpoint: ERROR' "$netns_dir/job.log")" = 2 ] &&
        [ "$(grep -c 'opal_cr_inc_core_ckpt() ended with ERROR' "$netns_dir/job.log")" = 2 ]
}
netns_until 10 two_ended_with_error || netns_fail "not two ranks ended with ERROR, or Open MPI was not told"
netns_links_are_on lifeline || netns_fail "the links are not on the lifeline"
netns_soak_stop
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
echo "8 checkpoints of 4 ranks"
exit 0
