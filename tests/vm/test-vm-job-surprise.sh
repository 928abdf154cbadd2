#!/bin/bash
# The HCA is pulled from a VM without a word to anybody: the job goes on over TCP, the unplug completes, and the HCA can
# come back.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/job-common.sh"
job_lab_up
mac=${vm_mac[node1]}
announce node1 && announce node2 || fail "the agents do not answer"
job_start 1
check "the job is on verbs" until_true 90 links_are_on ib0
check "the HCA of node1 carries packets" counter_grows node1 100 30

begin=$SECONDS
# Linux 6.1's soft-RoCE sometimes waits 50 s for a packet that it has dropped itself ("Failed allocating skb"); the job
# must not wait with it.
ctl node1 detach ua-hca0 & detach=$!
check "the job goes on over TCP" until_true 30 links_are_on lifeline
job_runs || fail "the job ended: $(tail -n 20 "$NINJA_LAB_STATE/job.log")"
check_between "seconds until the job is on TCP" $((SECONDS - begin)) 0 30
# It may have left the device before, when its port went down.
check "the rank says that the device was lost" until_true 30 grep -q 'fabric ib0: the device is lost' "$NINJA_LAB_STATE/job.log"
wait "$detach" || ctl node1 detach ua-hca0 || fail "the unplug does not complete: a rank holds the device"
echo "the HCA is gone after $((SECONDS - begin)) s"

ctl node1 attach "$NINJA_LAB_STATE/hosts/private-a/hca/hca0.xml" || fail "attach"
ctl node1 resume ib0 --mac "$mac" --epoch 2 || fail "resume"
check "the job is on verbs again" until_true 60 links_are_on ib0
job_end
exit 0
