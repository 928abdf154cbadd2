#!/bin/bash
# Injected faults of the device over verbs, at one of two ranks: the job goes on, nothing is lost, repeated or changed, the
# links come back to verbs, and the peer learns it over the lifeline.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/fault-common.sh"

# device_fault KIND WHY: rank 0 meets KIND, and says WHY it gave up the path or the device.
device_fault() {
    local begin=$SECONDS
    soak_start "$1=100,gone=300,seed=$seed"
    # The first switch to verbs is that at the start.
    until_true 90 said_often 0 'lifeline -> ib at' 4 && until_true 10 said_often 1 'lifeline -> ib at' 4 ||
        fail "$1: the links do not come back to verbs: $(tail -n 30 "$NINJA_LAB_STATE/job.log")"
    job_end
    check "$1: rank 0 met it" said_often 0 "fault: $1, frame" 3
    check "$1: and took the device at its word" said_often 0 "$2" 3
    check "$1: rank 1 heard of it" said_often 1 'PEER_(CLOSED|DOWN) in OPEN' 3
    check "$1: and injected nothing itself" test "$(said 1 'fault: ')" = 0
    echo "$1: $(said 0 'fault: ') times; $(said 0 'lifeline -> ib at') switches to verbs; $((SECONDS - begin)) s"
}

device_fault post 'path to rank .* failed: a request was not taken by the device'
device_fault completion 'path to rank .* failed: general error'
device_fault queue 'the device is lost, .*: a queue of the device failed'
device_fault fatal 'the device is lost, .*: the device failed'

exit 0
