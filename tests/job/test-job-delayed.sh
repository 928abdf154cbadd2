#!/bin/bash
# Tests that data which is late on a released fabric never reaches a buffer that is in use again.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
netns_up switch
netns_relay_start fast0
# A slow fabric, so that most releases fall into the middle of a message, and data waits in the relay.
netns_relay_command rate 400
NETNS_LIMIT=90
# The drain limit is a tenth of the usual one, and so are the delays, to have more rounds in the time.
NETNS_MCA=(--mca btl_ninja_drain_limit 50)
netns_mpirun_start 2 "$netns_programs/ninja-soak" --duration 0 --stall-limit 15 --min-size 1M \
    --json "$netns_dir/soak.json"
netns_until 20 netns_ranks_listen 2 || netns_fail "the ranks do not listen"

# Bytes that have come out of the relay, both ways.
out_bytes() {
    echo $(($(netns_bytes s fast0-a) + $(netns_bytes s fast0-b)))
}

# True once there are at least $1 of them.
came_out() {
    [ "$(out_bytes)" -ge "$1" ]
}

# Later than any limit (held until the links are on the lifeline and their buffers in use again), shorter than the
# drain limit, and about as long: forced and orderly ends.
held=0 late=0 switched=0
for delay in hold hold 30 hold 50 90 hold hold 50 hold hold 150 hold 120 hold; do
    netns_until 5 netns_links_are_on fast || netns_fail "the links are not on the fabric"
    sleep 0.1
    if [ "$delay" = hold ]; then netns_relay_command hold; else netns_relay_command delay "$delay"; fi
    sleep 0.03
    netns_rankctl --rank $((switched % 2)) release fast >>"$netns_dir/release.log" ||
        netns_fail "release failed"
    netns_links_are_on lifeline || netns_fail "the links are not on the lifeline"
    before=$(out_bytes)
    sleep 0.2
    netns_relay_command delay 0
    if [ "$delay" = hold ]; then
        held=$((held + 1))
        netns_until 1 came_out $((before + 65536)) && late=$((late + 1))
    fi
    netns_rankctl --rank $((switched % 2)) resume fast >>"$netns_dir/release.log" ||
        netns_fail "resume failed"
    switched=$((switched + 1))
done
netns_soak_stop
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
echo "$switched releases, data came after $late of $held during which it was held"
[ "$late" -ge 5 ] || netns_fail "hardly any data was late"
exit 0
