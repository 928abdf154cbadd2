#!/bin/bash
# The verbs transport alone, on the soft-RoCE device of a guest: every case of test-transport.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/job-common.sh"
program=$build/ompi-mca/test-transport
make -s -C "$build/ompi-mca" test-transport >/dev/null || fail "test-transport cannot be built"
cmocka=$(ldd "$program" | awk '/libcmocka/ { print $3 }')
[[ -r $cmocka ]] || skip "no shared libcmocka here"
lab_up --nodes 1
tar -cf - -C "$(dirname "$program")" test-transport -C "$(dirname "$cmocka")" --dereference "$(basename "$cmocka")" |
    "$lab" ssh node1 'tar -C /tmp -xf -' || fail "the program does not get into the guest"
timeout 280 "$lab" ssh node1 'cd /tmp && LD_LIBRARY_PATH=/tmp NINJA_TEST_TRANSPORT=verbs@rxe0 timeout 260 ./test-transport' \
    >"$NINJA_LAB_STATE/transport.log" 2>&1 </dev/null
rc=$?
grep -E '^\[ +(OK|FAILED|SKIPPED|PASSED) +\]' "$NINJA_LAB_STATE/transport.log"
((rc == 0)) || fail "test-transport ended with $rc: $(tail -n 30 "$NINJA_LAB_STATE/transport.log")"
exit 0
