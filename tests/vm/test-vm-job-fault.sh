#!/bin/bash
# Injected faults of the device over verbs, at one of two ranks: the job goes on, nothing is lost, repeated or changed, the
# links come back to verbs, and the peer learns it over the lifeline.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/job-common.sh"
seed=${NINJA_FAULT_SEED:-7}
# What failed, with the events of the faults and paths.
fail() {
    echo "FAIL: $*"
    grep -E 'fault|failed|in OPEN|lost| at sequence' "$NINJA_LAB_STATE/job.log" | tail -n 60
    exit 1
}
job_lab_up

# soak_start FAULT0 FAULT1: ninja-soak with FAULT0 injected by rank 0 and FAULT1 by rank 1 ("": none).
soak_start() {
    local command='exec timeout 200 mpirun --am ninja --gmca btl_ninja_agent none --gmca btl_ninja_fabrics ib=verbs@rxe0 \
        --gmca btl_ninja_verbose 2' node=1 fault
    for fault in "$1" "$2"; do
        ((node == 1)) || command+=' :'
        command+=" -n 1 --host node$node env OMPI_MCA_btl_ninja_fault=$fault \
            ninja-soak --duration 0 --seed $seed --max-size 256K --rate 200 --stall-limit 30 --json /root/soak.json"
        node=$((node + 1))
    done
    "$lab" ssh node1 "$command" >"$NINJA_LAB_STATE/job.log" 2>&1 </dev/null &
    job_pid=$!
    until_true 120 links_are_on ib || fail "the job is not on verbs: $(tail -n 20 "$NINJA_LAB_STATE/job.log")"
}

# said RANK PATTERN: how often the rank has said so.
said() { grep -cE "ninja [0-9]+\.$1 [0-9]+: .*$2" "$NINJA_LAB_STATE/job.log"; }
said_often() { (($(said "$1" "$2") >= $3)); }

# device_fault KIND WHY: rank 0 meets KIND, and says WHY it gave up the path or the device.
device_fault() {
    local begin=$SECONDS
    soak_start "$1=100,gone=300,seed=$seed" ''
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
