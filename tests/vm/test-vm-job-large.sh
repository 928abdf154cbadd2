#!/bin/bash
# Long messages over verbs are read from their senders' memory; the HCA is given up, comes back, and is pulled while they
# are, and nothing is lost.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/job-common.sh"
# reads VM: how many long messages the ranks in VM have read.
reads() { status "$1" | jq '[.. | objects | select(has("links")) | .links[].reads] | add'; }
# reads_grow VM BEFORE
reads_grow() { (($(reads "$1") > $2)); }
# both_read: from now on, both ways.
both_read() {
    local first second
    first=$(reads node1) second=$(reads node2)
    until_true 30 reads_grow node1 "$first" && until_true 30 reads_grow node2 "$second"
}

job_lab_up
mac=${vm_mac[node1]}
announce node1 && announce node2 || fail "the agents do not answer"
job_start 1 --max-size 4M
check "the job is on verbs" until_true 90 links_are_on ib0
check "long messages are read, both ways" both_read

for ((cycle = 1; cycle <= 3; cycle++)); do
    before=$(switches_to lifeline)
    ctl node1 release ib0 --mac "$mac" || fail "release"
    check "both ends are on the lifeline" links_switch 20 lifeline "$before"
    check "no packet leaves the HCA" counter_stands_still node1
    before=$(switches_to ib0)
    ctl node1 resume ib0 --mac "$mac" || fail "resume"
    check "the job is on verbs again" links_switch 60 ib0 "$before"
    check "long messages are read again, both ways" both_read
done

ctl node1 detach ua-hca0 & detach=$!
check "the job goes on over TCP" until_true 30 links_are_on lifeline
wait "$detach" || ctl node1 detach ua-hca0 || fail "the unplug does not complete: a rank holds the device"
ctl node1 attach "$NINJA_LAB_STATE/hosts/private-a/hca/hca0.xml" || fail "attach"
ctl node1 resume ib0 --mac "$mac" --epoch 2 || fail "resume"
check "the job is on verbs again" until_true 60 links_are_on ib0
check "long messages are read once more, both ways" both_read
job_end
exit 0
