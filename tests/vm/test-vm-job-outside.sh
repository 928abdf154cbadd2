#!/bin/bash
# A rank's control thread answers its peer over verbs while the application is outside MPI.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/job-common.sh"
job_lab_up
program=$NINJA_LAB_STATE/get-outside
"${MPICC:-mpicc}" -o "$program" "$(dirname "$0")/../../ompi-mca/tests/get-outside.c" || fail "get-outside cannot be built"
"$lab" ssh node1 'cat >/usr/local/bin/get-outside && chmod +x /usr/local/bin/get-outside' <"$program" ||
    fail "get-outside does not get into the guest"
device_is_ready() { "$lab" ssh node1 'grep -q ACTIVE /sys/class/infiniband/rxe0/ports/1/state' </dev/null; }
until_true 60 device_is_ready || fail "rxe0 does not become ACTIVE"
# Both ranks share the guest's processor.
job() {
    timeout 130 "$lab" ssh node1 "timeout 120 mpirun -n 2 --host localhost:2 --mca mpi_yield_when_idle 1 --am ninja \
        --mca btl ninja,self --mca btl_ninja_fabrics ib=verbs@rxe0 --mca btl_ninja_agent none --mca btl_ninja_verbose 1 \
        get-outside" </dev/null >"$NINJA_LAB_STATE/job.log" 2>&1
}
check "messages are fetched from a rank outside MPI" job
check "over verbs" grep -q 'lifeline -> ib at' "$NINJA_LAB_STATE/job.log"
grep '^ok' "$NINJA_LAB_STATE/job.log" || { cat "$NINJA_LAB_STATE/job.log"; exit 1; }
exit 0
