#!/bin/bash
# Memory that gets other pages between two messages is not taken for what was registered with the device before.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/job-common.sh"
make -s -C "$build/tests" mpi-remap >/dev/null || fail "mpi-remap cannot be built"
job_lab_up
check "each message is intact" job_on_node1 "$build/tests/mpi-remap" --seconds 25 --seed "$RANDOM"
check "they went over verbs" grep -q 'lifeline -> ib at' "$NINJA_LAB_STATE/job.log"
check "memory may stay registered" grep -qE 'up to [1-9][0-9]* KiB stay registered' "$NINJA_LAB_STATE/job.log"
check "and did to the end" eval '! grep -q "memory is registered for each message anew" "$NINJA_LAB_STATE/job.log"'
rounds=$(sed -n 's/.*2 ranks, \([0-9]*\) rounds.*/\1/p' "$NINJA_LAB_STATE/job.log")
check "each kind of change twice or more" test "${rounds:-0}" -ge 12
grep verified "$NINJA_LAB_STATE/job.log"
exit 0
