#!/bin/bash
# A job over verbs gives up its HCA, it is unplugged, plugged in and used again: ten times in a row, and nothing is lost.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/job-common.sh"
cycles=10
job_lab_up
mac=${vm_mac[node1]}
announce node1 && announce node2 || fail "the agents do not answer"
job_start 1
check "the job is on verbs" until_true 60 links_are_on ib0
check "the HCA of node1 sends" counter_grows node1 50 20
read -r old_instance _ < <(device_counter node1)

for ((cycle = 1; cycle <= cycles; cycle++)); do
    "$lab" observe "$build/benchmarks/ninja-observer" --mark "$observer" "cycle-$cycle" >/dev/null
    before=$(switches_to lifeline)
    ctl node1 release ib0 --mac "$mac" || fail "release"
    check "both ends are on the lifeline" links_switch 10 lifeline "$before"
    check "no packet leaves the HCA" counter_stands_still node1
    ctl node1 detach ua-hca0 || fail "detach"
    before=$(switches_to ib0)
    ctl node1 attach "$NINJA_LAB_STATE/hosts/private-a/hca/hca0.xml" || fail "attach"
    ctl node1 resume ib0 --mac "$mac" --epoch $((cycle + 1)) || fail "resume"
    check "the job is on verbs again" links_switch 60 ib0 "$before"
    check "the HCA sends" counter_grows node1 20 20
    read -r instance packets_sent < <(device_counter node1)
    ((instance != old_instance)) || fail "it is still the same device ($instance)"
    old_instance=$instance
    echo "cycle $cycle: device instance $instance, $packets_sent packets; longest stall: $("$lab" observe \
        "$build/benchmarks/ninja-observer" --unmark "$observer" "cycle-$cycle" | jq -c '.longest_stall_s? // .') ($SECONDS s)"
done
job_end
exit 0
