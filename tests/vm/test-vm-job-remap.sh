#!/bin/bash
# Memory that gets other pages between two messages is not taken for what was registered with the device before.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/job-common.sh"
make -s -C "$build/tests" mpi-remap >/dev/null || fail "mpi-remap cannot be built"
job_lab_up
"$lab" ssh node1 'cat >/usr/local/bin/mpi-remap && chmod +x /usr/local/bin/mpi-remap' <"$build/tests/mpi-remap" ||
    fail "mpi-remap does not get into the guest"
device_is_ready() { "$lab" ssh node1 'grep -q ACTIVE /sys/class/infiniband/rxe0/ports/1/state' </dev/null; }
until_true 60 device_is_ready || fail "rxe0 does not become ACTIVE"
# job SEED OPTION...: both ranks share the guest's processor.
job() {
    local seed=$1
    shift
    timeout 150 "$lab" ssh node1 "timeout 140 mpirun -n 2 --host localhost:2 --mca mpi_yield_when_idle 1 --am ninja \
        --mca btl ninja,self --mca btl_ninja_fabrics ib=verbs@rxe0 --mca btl_ninja_agent none --mca btl_ninja_verbose 2 \
        $* mpi-remap --seconds 25 --seed $seed" </dev/null >"$NINJA_LAB_STATE/job.log" 2>&1 ||
        { cat "$NINJA_LAB_STATE/job.log"; return 1; }
}
check "each message is intact" job "$RANDOM"
check "they went over verbs" grep -q 'lifeline -> ib at' "$NINJA_LAB_STATE/job.log"
check "memory may stay registered" grep -qE 'up to [1-9][0-9]* KiB stay registered' "$NINJA_LAB_STATE/job.log"
check "and did to the end" eval '! grep -q "memory is registered for each message anew" "$NINJA_LAB_STATE/job.log"'
rounds=$(sed -n 's/.*2 ranks, \([0-9]*\) rounds.*/\1/p' "$NINJA_LAB_STATE/job.log")
check "each kind of change twice or more" test "${rounds:-0}" -ge 12
grep verified "$NINJA_LAB_STATE/job.log"
exit 0
