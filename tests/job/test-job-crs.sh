#!/bin/bash
# Tests that the checkpoint entry of crs/symvirt carries out releases under load, with nothing lost.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
[ -e "$netns_top/ompi-mca/components/mca_crs_symvirt.so" ] || netns_skip "this Open MPI has no crs framework"
netns_up
NETNS_MCA=(--mca crs symvirt)
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
netns_soak_stop
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
echo "8 checkpoints of 4 ranks"
exit 0
