#!/bin/bash
# Two ranks in each of two VMs: all four switch together, by the checkpoint entry of crs/symvirt; one that is started
# during the fence joins later.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/job-common.sh"
job_lab_up
mac=${vm_mac[node1]}
announce node1 && announce node2 || fail "the agents do not answer"
job_mca="--mca crs symvirt" job_start 2
check "the job is on verbs" until_true 90 links_are_on ib0

# A foreign holder: named, in time, and the job is unharmed.
in_vm node1 'ibv_asyncwatch -d rxe0 >/dev/null 2>&1 & echo $! >/tmp/holder; sleep 1'
begin=$SECONDS
ctl node1 release ib0 --mac "$mac" >"$NINJA_LAB_STATE/refused" 2>&1 && fail "released although it is held"
grep -q ibv_asyncwatch "$NINJA_LAB_STATE/refused" || fail "the holder is not named: $(cat "$NINJA_LAB_STATE/refused")"
check_between "seconds until refused" $((SECONDS - begin)) 0 12
check "the job is on verbs (again)" until_true 60 links_are_on ib0
in_vm node1 'kill $(cat /tmp/holder)'

ctl node1 release ib0 --mac "$mac" || fail "release"
check "the job goes on over TCP" until_true 20 links_are_on lifeline
# Started while the device is withheld: runs over TCP, and takes the fabric when it is there.
"$lab" ssh node1 'timeout 120 mpirun --am ninja -n 2 --host node1:1,node2:1 ninja-soak --duration 1 --max-size 16K' \
    >"$NINJA_LAB_STATE/second.json" 2>&1 || fail "a job started during the fence: $(tail -n 5 "$NINJA_LAB_STATE/second.json")"
check "a job that is started during the fence runs" grep -q '"result": "ok"' "$NINJA_LAB_STATE/second.json"
ctl node1 detach ua-hca0 || fail "detach"
ctl node1 attach "$NINJA_LAB_STATE/hosts/private-a/hca/hca0.xml" || fail "attach"
ctl node1 resume ib0 --mac "$mac" --epoch 2 || fail "resume"
until_true 60 links_are_on ib0 || {
    for vm in node1 node2; do
        status "$vm" | jq -c ".. | objects | select(has(\"links\")) | [.rank, .fabrics, (.links[] | [.rank, .transport, .paths])]"
    done
    tail -n 60 "$NINJA_LAB_STATE/job.log"
    fail "not all four are on verbs again"
}
job_end
# The two ranks of node1, for the unplug; where a foreign holder is found, no rank is asked.
check_between "checkpoints that the ranks of node1 ended with CONTINUE" \
    "$(grep -c 'crs/symvirt: checkpoint: CONTINUE: resumed' "$NINJA_LAB_STATE/job.log")" 2 2
exit 0
