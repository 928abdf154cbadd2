#!/bin/bash
# Tests the plain case: traffic leaves the fast fabric at release, its sockets are closed, and it returns at resume.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
netns_up
netns_observer_start
netns_mpirun_start 2 "$netns_programs/ninja-soak" --duration 0 --rate 400 --max-size 100K \
    --stall-limit 10 --observer "$netns_observer" --json "$netns_dir/soak.json"
netns_until 20 netns_ranks_listen 2 || netns_fail "the ranks do not listen"

# Prints the bytes that a fabric carries in half a second.
traffic() {
    local before
    before=$(netns_bytes a "$1")
    sleep 0.5
    echo $(($(netns_bytes a "$1") - before))
}

netns_until 5 netns_links_are_on fast || netns_fail "the links never got to the fast fabric"
up=$(traffic fast0)
netns_observe --mark release
netns_rankctl release fast || netns_fail "release failed"
stall=$(netns_observe --unmark release | jq .longest_stall_s)
netns_links_are_on lifeline || netns_fail "the links are not on the lifeline after the release"
left=$(ip netns exec "$netns_prefix-a" ss -Htn src 10.77.2.1)
[ -z "$(grep -v TIME-WAIT <<<"$left")" ] || netns_fail "sockets are still open on fast0: $left"
down=$(traffic fast0) lifeline=$(traffic eth0)
netns_rankctl resume fast || netns_fail "resume failed"
netns_until 3 netns_links_are_on fast || netns_fail "the links did not return to the fast fabric"
again=$(traffic fast0)
netns_soak_stop
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
echo "fast0: $up bytes, released $down (eth0 $lifeline), resumed $again; stall by the release $stall s"
[ "$up" -gt 100000 ] && [ "$again" -gt 100000 ] || netns_fail "the fast fabric was not used"
[ "$down" -lt 2000 ] || netns_fail "there was traffic on the released fabric"
[ "$lifeline" -gt 100000 ] || netns_fail "the lifeline did not carry the traffic"
jq -n -e "$stall < 0.5" >/dev/null || netns_fail "the job stood still for $stall s"
exit 0
