#!/bin/bash
# Tests a program that is not ours: NetPIPE checks its data while its ranks switch transports.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
command -v NPopenmpi >/dev/null || netns_skip "NPopenmpi (Debian: netpipe-openmpi) is missing"
netns_up
NETNS_LIMIT=40
netns_mpirun_start 2 "$(command -v NPopenmpi)" -i -u 1000000 -o "$netns_dir/np.out"
"$builddir/switch-storm" --dir "$netns_control" --ranks 2 --interval 20 --duration 5 --overlap 0 \
    >"$netns_dir/storm.json" 2>"$netns_dir/storm.log"
cat "$netns_dir/storm.json" "$netns_dir/storm.log"
netns_mpirun_wait || netns_fail "NetPIPE failed"
cat "$netns_dir/job.log" | tail -n 5
exit 0
