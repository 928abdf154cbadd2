#!/bin/bash
# A rank's control thread answers its peer over verbs while the application is outside MPI.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/job-common.sh"
job_lab_up
program=$NINJA_LAB_STATE/get-outside
"${MPICC:-mpicc}" -o "$program" "$(dirname "$0")/../../ompi-mca/tests/get-outside.c" || fail "get-outside cannot be built"
check "messages are fetched from a rank outside MPI" job_on_node1 "$program"
check "over verbs" grep -q 'lifeline -> ib at' "$NINJA_LAB_STATE/job.log"
grep '^ok' "$NINJA_LAB_STATE/job.log" || { cat "$NINJA_LAB_STATE/job.log"; exit 1; }
exit 0
