#!/bin/bash
# Tests that the host hears, through the agent's channel, which transport each link of each rank uses, and since when;
# and that a link which carries nothing, because its ranks share memory, opens no path.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
guestctl=$netns_top/host-coordinator/ninja-guestctl
[ -x "$guestctl" ] || netns_skip "ninja-guestctl is not built here"
netns_up
# The channel of a VM, the agent in it, on a made-up tree without devices, and a pipe that keeps the channel open.
mkdir "$netns_dir/dev" "$netns_dir/sys" "$netns_dir/run"
mkfifo "$netns_dir/hold"
"$builddir/socket-splice" "$netns_dir/guest-end" "$netns_dir/host-end" <"$netns_dir/hold" &
netns_pids+=($!)
exec {hold}>"$netns_dir/hold"
netns_until 5 test -S "$netns_dir/host-end" || netns_fail "there is no channel"
"$netns_top/guest-agent/symvirt-agentd" --port "$netns_dir/guest-end" --socket "$netns_dir/agent.sock" \
    --dev "$netns_dir/dev" --sys "$netns_dir/sys" --run "$netns_dir/run" \
    --config "$netns_dir/none.json" 2>"$netns_dir/agent.log" {hold}>&- &
netns_pids+=($!)
netns_until 5 test -S "$netns_dir/agent.sock" || netns_fail "the agent does not listen"
NETNS_MCA=(--mca btl_ninja_agent "$netns_dir/agent.sock")
netns_mpirun_start 4 "$netns_programs/ninja-soak" --duration 0 --rate 50 --max-size 10K --stall-limit 15 \
    --json "$netns_dir/soak.json" {hold}>&-
netns_until 40 netns_ranks_listen 4 || netns_fail "the ranks do not listen"
netns_until 20 netns_links_are_on fast || netns_fail "the links never got to the fast fabric"

# Asks over the channel; true if condition $1 of jq holds for the answer.
ranks() {
    "$guestctl" --socket "$netns_dir/host-end" --json vm ranks >"$netns_dir/ranks.json" || return 1
    jq -e "$1" "$netns_dir/ranks.json" >/dev/null
}

# Ranks are on the two hosts by turns: an even and an odd one have the network between them.
far_links='[.detail.ranks[] | .rank as $me | .links[] | select(.rank % 2 != $me % 2)]'
complete='.ok and (.detail.ranks | length == 4) and ([.detail.ranks[].rank] | sort == [0,1,2,3]) and
    ([.detail.ranks[] | .rank as $me | .links[] | .rank != $me] | all)'
netns_until 10 ranks "$complete and ($far_links | length == 8 and all(.[]; .transport == \"fast\"))" ||
    netns_fail "not all links are told to be on the fabric: $(cat "$netns_dir/ranks.json")"
netns_rankctl status --json | jq -e '[.. | objects | select(has("links")) | .rank as $me | .links[] |
    select(.rank % 2 == $me % 2) | .paths.fast] | length == 4 and all(.[]; . == "CLOSED")' >/dev/null ||
    netns_fail "links of ranks that share memory have opened paths, or are not there"
netns_rankctl --rank 2 release fast >/dev/null || netns_fail "release failed"
sleep 1
# Links of rank 2, and those to it, are on the lifeline since then; all others stay.
ranks "$complete and ([.detail.ranks[] | .rank as \$me | .links[] | select(.rank % 2 != \$me % 2) |
    if \$me == 2 or .rank == 2 then .transport == \"lifeline\" and .since_s > 0.9 and .since_s < 20
    else .transport == \"fast\" end] | length == 8 and all) and
    ([.detail.ranks[] | select(.rank == 2).links[]] | length >= 2)" ||
    netns_fail "the release of rank 2 is not told: $(cat "$netns_dir/ranks.json")"
"$guestctl" --socket "$netns_dir/host-end" vm ranks || netns_fail "no text for humans"
netns_soak_stop
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
netns_until 5 ranks '.ok and .detail.ranks == []' || netns_fail "ranks are told of that have ended"
exit 0
