#!/bin/bash
# Frames that are lost, late, repeated or out of order over verbs, paths that break and a device that is gone, by injection at
# one of two ranks: the job goes on, nothing is lost, repeated or changed, and the links are on verbs in the end.
# SPDX-License-Identifier: BSD-3-Clause
soak_max_size=16K soak_rate=50
. "$(dirname "$0")/fault-common.sh"

# frame_fault KIND: rank 0 meets it three times.
frame_fault() {
    local begin=$SECONDS
    soak_start "$1=100,hold=100,gone=300,seed=$seed"
    until_true 150 said_often 0 "fault: $1, frame [0-9]+ to [0-9a-f]+ on ib" 3 || fail "$1 does not happen: $(tail -n 30 "$NINJA_LAB_STATE/job.log")"
    case $1 in
    drop | reset | kill)
        check "$1: the path is left, and opened again" until_true 90 said_often 0 'lifeline -> ib at' 3 ;;
    *) check "$1: the path stays" test "$(said 0 'ib -> lifeline at')" = 0 ;;
    esac
    until_true 90 links_are_on ib || fail "$1: the links do not come back to verbs: $(tail -n 30 "$NINJA_LAB_STATE/job.log")"
    job_end
    check "$1: rank 1 injected nothing itself" test "$(said 1 'fault: ')" = 0
    echo "$1: $(said 0 "fault: $1, frame .* on ib") times; $((SECONDS - begin)) s"
}

for kind in duplicate delay reorder reset drop kill; do
    frame_fault "$kind"
done
exit 0
