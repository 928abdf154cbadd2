#!/bin/bash
# Tests a program that is not ours: NetPIPE checks its data while its ranks switch transports.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
command -v NPopenmpi >/dev/null || netns_skip "NPopenmpi (Debian: netpipe-openmpi) is missing"
netns_up
NETNS_LIMIT=40
netns_foreign_program
netns_mpirun_start 2 "$(command -v NPopenmpi)" -i -u 1000000 -o "$netns_dir/np.out"
# The storm outlives the job: that its ranks are gone then is no failure.
"$builddir/switch-storm" --dir "$netns_control" --ranks 2 --interval 20 --duration 20 --overlap 0 \
    >"$netns_dir/storm.json" 2>"$netns_dir/storm.log"
netns_mpirun_wait || netns_fail "NetPIPE failed"
cat "$netns_dir/storm.json"
good=$(grep -c 'Integrity check passed' "$netns_dir/job.log")
bad=$(grep -ci 'failed' "$netns_dir/job.log")
echo "NetPIPE: $good sizes passed, $bad failed"
[ "$bad" = 0 ] && [ "$good" -gt 30 ] || netns_fail "NetPIPE found its data damaged, or did not finish"
jq -se '.[0] | .releases > 20 and .resumes > 20 and .failed == 0' "$netns_dir/storm.json" >/dev/null ||
    netns_fail "hardly anything was switched"
exit 0
