#!/bin/bash
# Tests that lifelines which break at random under load, by fault injection, lose and repeat nothing.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
netns_up
NETNS_FABRICS='' NETNS_MCA=(--mca btl_ninja_fault reset=2,seed=7)
netns_mpirun_start 4 "$netns_programs/ninja-soak" --duration 4 --stall-limit 15 \
    --json "$netns_dir/soak.json"
netns_until 20 netns_ranks_listen 4 || netns_fail "the ranks do not listen"
sleep 3
netns_rankctl status --json >"$netns_dir/status.json" || netns_fail "status failed"
reconnects=$(jq '[.. | .reconnects? // empty] | add' "$netns_dir/status.json")
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
echo "$reconnects lifelines were made again in the first 3 s"
[ "$reconnects" -gt 20 ] || netns_fail "hardly any lifeline was broken"
exit 0
