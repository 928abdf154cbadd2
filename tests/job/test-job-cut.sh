#!/bin/bash
# Tests that a job gets over each of its fabrics being cut for 20 seconds, silently, at the switch.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
netns_up switch
netns_observer_start
NETNS_LIMIT=90
netns_mpirun_start 2 "$netns_programs/ninja-soak" --duration 0 --rate 500 --max-size 100K \
    --observer "$netns_observer" --json "$netns_dir/soak.json"
netns_until 20 netns_ranks_listen 2 || netns_fail "the ranks do not listen"
sleep 1

# Prints how many messages the job has verified.
verified() {
    netns_observe --report | jq .messages_verified
}

# The fast fabric: a release gets the job off it although nothing can be drained.
netns_cut fast0
sleep 0.3
start=$(date +%s%N)
netns_rankctl release fast || netns_fail "release failed on a fabric that is cut"
took=$((($(date +%s%N) - start) / 1000000))
sleep 0.5
before=$(verified)
sleep 1
after=$(verified)
echo "release on a fabric that is cut: $took ms; then $((after - before)) messages in a second"
[ "$took" -lt 2000 ] || netns_fail "the release took $took ms"
[ $((after - before)) -gt 100 ] || netns_fail "the job does not go on over the lifeline"
netns_heal fast0
netns_rankctl resume fast || netns_fail "resume failed after the fabric was healed"
sleep 1
netns_rankctl release fast || netns_fail "release failed"

# The lifeline, while all traffic is on it. The job may stand still, and must go on soon after.
netns_observe --mark cut
netns_cut eth0
sleep 20
netns_heal eth0
start=$(date +%s%N)
before=$(verified)
moving() { [ "$(verified)" -gt $((before + 20)) ]; }
netns_until 15 moving || netns_fail "the job did not go on within 15 s after the lifeline was healed"
took=$((($(date +%s%N) - start) / 1000000))
sleep 0.2
echo "lifeline cut for 20 s: stall $(netns_observe --unmark cut | jq .longest_stall_s) s, going on $took ms after"
netns_rankctl resume fast || netns_fail "resume failed"
sleep 0.5

# The fast fabric under traffic, without anybody telling.
netns_observe --mark fast
netns_cut fast0
sleep 5
netns_heal fast0
before=$(verified)
netns_until 15 moving || netns_fail "the job did not go on within 15 s after the fabric was healed"
echo "fast fabric cut for 5 s, nobody told: stall $(netns_observe --unmark fast | jq .longest_stall_s) s"

# The same, and it stays so: the links take the lifeline.
netns_until 20 netns_links_are_on fast || netns_fail "the links did not come back to the fabric"
netns_observe --mark dark
netns_cut fast0
sleep 0.5
before=$(verified)
netns_until 20 moving || netns_fail "the job stands still although the lifeline is there"
echo "fast fabric cut for good, nobody told: stall $(netns_observe --unmark dark | jq .longest_stall_s) s"
netns_heal fast0
netns_soak_stop
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
exit 0
