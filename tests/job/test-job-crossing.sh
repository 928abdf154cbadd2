#!/bin/bash
# Tests releases and resumes that cross: asked for again before the last one has ended, on all ranks at once.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
netns_up
netns_mpirun_start 4 "$netns_programs/ninja-soak" --duration 0 --stall-limit 15 \
    --json "$netns_dir/soak.json"
timeout 30 "$builddir/switch-storm" --dir "$netns_control" --ranks 4 --interval 2 --overlap 100 \
    --duration 5 >"$netns_dir/storm.json" 2>"$netns_dir/storm.log" || netns_fail "the storm failed"
cat "$netns_dir/storm.json"
# It must have been a storm of crossings, and the last word, resume, must hold.
jq -e '.overlapped > 50 and .failed == 0' "$netns_dir/storm.json" >/dev/null ||
    netns_fail "hardly any requests crossed"
fast=$(netns_bytes a fast0)
sleep 0.5
fast=$(($(netns_bytes a fast0) - fast))
netns_soak_stop
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
[ "$fast" -gt 100000 ] || netns_fail "the fabric is not used although it was resumed last"
exit 0
