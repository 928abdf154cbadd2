#!/bin/bash
# A cluster with a running job moves to the site without HCAs and back; times, bytes and the job's messages are right.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/move-common.sh"
move_lab_up
ninjad_start
check_equal "the plan" "$(ctl migrate cluster --to public --plan --json | jq -rs '.[0].moves | map(.vm + ">" + .to + ":" + (.hca_to // "-")) | join(" ")')" \
    "node1>public-a:- node2>public-b:-"
check_equal "a plan changes nothing" "$(ctl history --json)" '{"moves":[]}'
job_start
# links_are_told TRANSPORT: each VM has one rank, whose one link is on TRANSPORT, says 'ninjactl ranks'.
links_are_told() {
    ctl ranks cluster --json >"$dir/ranks" && jq -e --arg on "$1" '[.vms[] | .ranks[].links[]] |
        length == 2 and all(.[]; .transport == $on and .since_s >= 0)' "$dir/ranks" >/dev/null
}
check "ninjactl ranks: all links are on verbs" until_true 20 links_are_told ib0
check "there, one after the other" ctl migrate cluster --to public
check "ninjactl ranks: all links are on the lifeline" until_true 20 links_are_told lifeline
ctl ranks cluster
exactly_one node1 public-a
exactly_one node2 public-b
job_alive
check "again is no work" ctl migrate cluster --to public
check "back, both at once" ctl migrate cluster --to private --parallel 2
exactly_one node1 private-a
exactly_one node2 private-b
check_equal "HCA of node1" "$(vm_member node1 fabric)" ib0
check_equal "HCA of node2" "$(vm_member node2 fabric)" ib0
check "the job uses the HCA again" until_true 30 job_on_fabric
check "ninjactl ranks: all links are on verbs again" until_true 30 links_are_told ib0
check "the HCA is in the persistent definition" eval '"$lab" virsh private-a dumpxml --inactive node1 | grep -q ua-hca0'
ctl history --json >"$dir/history"
check_equal "moves" "$(jq -r '[.moves[] | .vm + " " + .state] | join(", ")' "$dir/history")" \
    "node1 DONE, node2 DONE, node1 DONE, node2 DONE"
check "bytes" jq -e 'all(.moves[]; .bytes.storage > 0 and .bytes.memory > 20000000)' "$dir/history"
check "downtime by STOP and RESUME" jq -e 'all(.moves[]; (.resume_at - .stop_at - .phases.downtime | fabs) < 0.001 and
    .phases.downtime > 0 and .phases.downtime < 3)' "$dir/history"
check "phases that took place have times" jq -e 'all(.moves[:2][]; .phases.release > 0 and .phases.detach > 0 and
    .phases.memory > 0 and .phases.attach < 0.1) and all(.moves[2:][]; .phases.attach > 0 and .phases.link_up > 0 and
    .phases.resume > 0)' "$dir/history"
jq -c '.moves[] | [.vm, .to, .phases]' "$dir/history"
check "explain" eval 'ctl explain 1 | grep -q "SWITCHING"'
check "no disk is left behind" eval '[[ $(ls "$NINJA_LAB_STATE"/hosts/*/lib/images/node*.qcow2 | wc -l) == 2 ]]'
job_end
