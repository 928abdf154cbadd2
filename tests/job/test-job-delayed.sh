#!/bin/bash
# Tests that data which is late on a released fabric never reaches a buffer that is in use again.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
netns_up switch
netns_relay_start fast0
# A slow fabric, so that most releases fall into the middle of a message.
for host in a b; do
    ip netns exec "$netns_prefix-s" tc qdisc add dev "fast0-$host" root tbf rate 400mbit burst 128k \
        limit 16m || netns_skip "the kernel has no tbf"
done
NETNS_LIMIT=90
# The drain limit is a tenth of the usual one, and so are the delays, to have more rounds in the time.
NETNS_MCA=(--mca btl_ninja_drain_limit 50)
netns_mpirun_start 2 "$netns_programs/ninja-soak" --duration 0 --stall-limit 15 --min-size 1M \
    --json "$netns_dir/soak.json"
netns_until 20 netns_ranks_listen 2 || netns_fail "the ranks do not listen"

# Longer than the drain limit, shorter, and about as long: forced and orderly ends.
late=0 switched=0
for delay in 120 150 180 30 220 150 90 250 120 180 50 150 200 300 120; do
    netns_until 5 netns_links_are_on fast || netns_fail "the links are not on the fabric"
    sleep 0.1
    netns_delay "$delay"
    sleep 0.03
    netns_rankctl --rank $((switched % 2)) release fast >>"$netns_dir/release.log" ||
        netns_fail "release failed"
    netns_links_are_on lifeline || netns_fail "the links are not on the lifeline"
    before=$(netns_bytes s fast0-b)
    # The old generation's frames still come out of the relay while the job is on the lifeline.
    sleep 0.3
    [ "$(netns_bytes s fast0-b)" -eq "$before" ] || late=$((late + 1))
    netns_delay 0
    netns_rankctl --rank $((switched % 2)) resume fast >>"$netns_dir/release.log" ||
        netns_fail "resume failed"
    switched=$((switched + 1))
done
netns_soak_stop
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
echo "$switched releases, late frames arrived after $late of them"
[ "$late" -ge 5 ] || netns_fail "hardly any data was late"
exit 0
