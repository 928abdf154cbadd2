#!/bin/bash
# A foreign holder of the HCA, a dead agent, a destination without the base image, an HCA whose port stays down.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/move-common.sh"

# refused TEXT COMMAND...: exit code 2, one line with TEXT, nothing changed.
refused() {
    local text=$1 out code before
    shift
    before=$(ctl history --json | jq '.moves | length')
    out=$("$@" 2>&1)
    code=$?
    ((code == 2)) || fail "$*: exit code $code: $out"
    [[ $out == *"$text"* && $(wc -l <<<"$out") == 1 ]] || fail "$* says '$out', should say '$text'"
    check_equal "no move was begun" "$(ctl history --json | jq '.moves | length')" "$before"
    echo "ok: refused: $out"
}

move_lab_up
# The same HCA with its cable out.
xml=$NINJA_LAB_STATE/hosts/private-a/hca
for i in 0 1; do
    sed "s|<mtu |<link state='down'/><mtu |" "$xml/hca$i.xml" >"$dir/down$i.xml"
    sed -i "s|device_xml: $xml/hca$i.xml|device_xml: $dir/down$i.xml|" "$dir/inventory.yaml"
done
ninjad_start --link-limit 12
job_start

"$lab" exec public-a mv /var/lib/libvirt/images/base.qcow2 /var/lib/libvirt/images/base.away
refused "lacks the base image" ctl migrate node1 --to public-a
"$lab" exec public-a mv /var/lib/libvirt/images/base.away /var/lib/libvirt/images/base.qcow2

# Foreign: not a process that is registered with the agent.
"$lab" ssh node1 'setsid -f ib_write_bw -d rxe0 -x 1 >/dev/null 2>&1 </dev/null' || fail "ib_write_bw"
check "it holds the HCA" until_true 20 "$lab" ssh node1 'ls -l /proc/$(pgrep -x ib_write_bw)/fd | grep -q uverbs'
ctl migrate node1 --to public-a >"$dir/ctl" 2>&1
check_equal "exit code with a foreign holder" $? 1
echo "says: $(last_move failure)"
[[ $(last_move failure) == *ib_write_bw* ]] || fail "the holder is not named"
exactly_one node1 private-a
check_equal "HCA" "$(vm_member node1 fabric)" ib0
"$lab" ssh node1 'kill $(pgrep -x ib_write_bw)'
check "the job uses the HCA" until_true 30 job_on_fabric

"$lab" ssh node1 'kill -STOP $(pgrep -x symvirt-agentd)'
refused "the agent in node1 does not answer" ctl migrate node1 --to public-a
"$lab" ssh node1 'kill -CONT $(pgrep -x symvirt-agentd)'
exactly_one node1 private-a

check "there" ctl migrate node1 --to public-a
ctl migrate node1 --to private-a >"$dir/ctl" 2>&1
check_equal "exit code with a dead port" $? 3
check_equal "state" "$(last_move state)" DEGRADED
echo "says: $(last_move missing)"
[[ $(vm_member node1 missing) == *"runs at private-a over TCP"* ]] || fail "status does not say what is missing"
exactly_one node1 private-a
job_alive
"$lab" virsh private-a domif-setlink node1 "$(vm_mac=$("$lab" status | awk '$1 == "node1" { sub(/hca=/, "", $4); print $4 }'); echo "$vm_mac")" up >/dev/null
check "with the cable in, the next try ends the move" until_true 90 last_state_is DONE
check "the job uses the HCA" until_true 30 job_on_fabric
job_end
