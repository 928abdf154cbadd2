#!/bin/bash
# Tests that data which is late on a released fabric never reaches a buffer that is in use again.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
netns_up switch
netns_relay_start fast0
NETNS_LIMIT=60
netns_mpirun_start 2 "$netns_programs/ninja-soak" --duration 0 --stall-limit 15 \
    --json "$netns_dir/soak.json"
netns_until 20 netns_ranks_listen 2 || netns_fail "the ranks do not listen"

# Longer than the drain limit, shorter, and in between: forced and orderly ends.
late=0 switched=0
for delay in 900 300 700 100 1200 600; do
    netns_until 5 netns_links_are_on fast || netns_fail "the links are not on the fabric"
    netns_delay "$delay"
    sleep 0.2
    netns_rankctl --rank $((switched % 2)) release fast || netns_fail "release failed"
    netns_links_are_on lifeline || netns_fail "the links are not on the lifeline"
    before=$(netns_bytes s fast0-b)
    sleep 0.6
    # The old generation's frames still come out of the relay while the job is on the lifeline.
    [ "$(netns_bytes s fast0-b)" -eq "$before" ] || late=$((late + 1))
    netns_delay 0
    netns_rankctl --rank $((switched % 2)) resume fast || netns_fail "resume failed"
    switched=$((switched + 1))
done
netns_soak_stop
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
echo "$switched releases, late frames arrived after $late of them"
[ "$late" -ge 3 ] || netns_fail "hardly any data was late"
exit 0
