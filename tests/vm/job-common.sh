# Shared by the tests of jobs in VMs: a lab with the whole product in its guests, ninja-soak on it, and an observer.
# SPDX-License-Identifier: BSD-3-Clause
build=$(cd "${builddir:-.}/.." && pwd)
. "$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/lab/tests/common.sh"
guestctl=$build/host-coordinator/ninja-guestctl
fabric_uuid=6e696e6a-6100-4000-8000-000000000001
observer=10.88.0.1:7510
[[ -x $guestctl ]] || skip "built without libvirt-dev"

# job_lab_up ARG...: a lab whose guests have the whole product.
job_lab_up() {
    local payload=$NINJA_LAB_STATE.payload
    make -s -C "$build" install DESTDIR="$payload" >"$NINJA_LAB_STATE.install" 2>&1 ||
        fail "make install: $(tail -n 5 "$NINJA_LAB_STATE.install")"
    lab_up --payload "$payload" "$@"
    rm -rf "$payload" "$NINJA_LAB_STATE.install"
    "$lab" observe --listen "$observer" --json "$NINJA_LAB_STATE/observer.json" >"$NINJA_LAB_STATE/observer.log" 2>&1 &
    observer_pid=$!
}

host_of() { "$lab" status | awk -v vm="$1" '/^host/ { host = $2 } $1 == vm { print host }'; }
hca_mac() { "$lab" status | awk -v vm="$1" '$1 == vm { sub(/^hca=/, "", $4); print $4 }'; }

# ctl VM COMMAND ARG...: asks the agent of VM, or libvirt about it.
ctl() {
    local vm=$1
    shift
    timeout 150 "$guestctl" --connect \
        "qemu+unix:///system?socket=$NINJA_LAB_STATE/hosts/$(host_of "$vm")/run/libvirt-sock" \
        --uuid "$fabric_uuid" "$vm" "$@"
}
# announce VM: tells the agent which device its fabric has, as it is at the start.
announce() { ctl "$1" resume ib0 --epoch 1 --mac "$(hca_mac "$1")"; }

# job_start PER_NODE SOAK_ARG...: ninja-soak on node1 and node2, until job_end.
job_start() {
    local per_node=$1
    shift
    "$lab" ssh node1 "exec timeout 500 mpirun --am ninja --map-by node -n $((2 * per_node)) \
        --host node1:$per_node,node2:$per_node --mca btl_ninja_verbose ${job_verbose:-1} ninja-soak --duration 0 --max-size 64K --rate 200 \
        --stall-limit 60 --observer $observer --json /root/soak.json $*" >"$NINJA_LAB_STATE/job.log" 2>&1 </dev/null &
    job_pid=$!
}

# status VM: what the ranks in VM say.
status() { "$lab" ssh "$1" ninja-rankctl status --json; }
# The links between the nodes are all on $1, seen from both nodes. Ranks are placed by turns, so those of one node are
# all even or all odd; their links among themselves carry no data (shared memory does).
links_are_on() {
    local vm
    for vm in node1 node2; do
        status "$vm" 2>/dev/null | jq -e --arg on "$1" '[.. | objects | select(has("links")) | .rank as $own | .links[] |
            select(.rank % 2 != $own % 2) | .transport] | length >= 1 and all(.[]; . == $on)' >/dev/null || return 1
    done
}
job_runs() { kill -0 "$job_pid" 2>/dev/null; }

# job_end: ends the job in good order and checks that nothing was lost.
job_end() {
    job_runs || fail "the job ended by itself: $(tail -n 20 "$NINJA_LAB_STATE/job.log")"
    "$lab" ssh node1 'kill -USR1 $(pgrep -x mpirun)'
    wait "$job_pid" || fail "the job failed: $(tail -n 20 "$NINJA_LAB_STATE/job.log")"
    "$lab" ssh node1 cat /root/soak.json >"$NINJA_LAB_STATE/soak.json"
    jq -c '{result, ranks, messages_sent, messages_verified, lost, duplicated, corrupt, reordered, overwritten, longest_stall_s}' \
        "$NINJA_LAB_STATE/soak.json"
    jq -e '.result == "ok" and .messages_sent > 0 and .messages_sent == .messages_verified and
        .lost + .duplicated + .corrupt == 0' "$NINJA_LAB_STATE/soak.json" >/dev/null || fail "messages"
}

# device_counter VM: "INSTANCE PACKETS" of its HCA; the instance is the number of its network interface, never used twice.
device_counter() {
    "$lab" ssh "$1" 'echo $(cat /sys/class/net/hca0/ifindex /sys/class/infiniband/rxe0/ports/1/hw_counters/sent_pkts)'
}
# The packets of VM's HCA go up, by at least $2 within $3 s.
counter_grows() {
    local before after
    read -r _ before < <(device_counter "$1")
    for ((second = 0; second < $3; second++)); do
        sleep 1
        read -r _ after < <(device_counter "$1")
        ((after - before >= $2)) && return 0
    done
    return 1
}
counter_stands_still() {
    local before after
    before=$(device_counter "$1")
    sleep 1.5
    after=$(device_counter "$1")
    [[ $before == "$after" ]] || { echo "$before, then $after"; return 1; }
}
