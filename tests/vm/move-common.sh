# Shared by the tests of moves: a lab, ninjad on it, and ninja-soak in its two guests.
# SPDX-License-Identifier: BSD-3-Clause
build=$(cd "${builddir:-.}/.." && pwd)
. "$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/lab/tests/common.sh"
ninjad=$build/host-coordinator/ninjad
ninjactl=$build/host-coordinator/ninjactl
[[ -x $ninjad && -x $ninjactl ]] || skip "built without a library that ninjad needs"
observer=10.88.0.1:7510
dir=$NINJA_LAB_STATE.move
ninjad_pid=

move_end() {
    local status=$?
    [[ -z $ninjad_pid ]] || { kill -KILL "$ninjad_pid"; wait "$ninjad_pid"; } 2>/dev/null
    ((status == 0)) || tail -n 40 "$dir/ninjad.log" "$dir/job.log" 2>/dev/null
    rm -rf "$dir"
    (exit "$status")
    test_end
}
trap move_end EXIT

# ninjad_start ARG...: a daemon on the same journal as the one before.
ninjad_start() {
    "$ninjad" -i "$dir/inventory.yaml" -j "$dir/journal.db" -s "$dir/s" "$@" >>"$dir/ninjad.log" 2>&1 &
    ninjad_pid=$!
    until_true 20 test -S "$dir/s" || fail "ninjad does not start"
    check "ninjad sees both agents" until_true 60 agents_answer
}
ninjad_kill() {
    kill -KILL "$ninjad_pid"
    wait "$ninjad_pid" 2>/dev/null
    rm -f "$dir/s"
    ninjad_pid=
}
agents_answer() { ctl status --json 2>/dev/null | jq -e 'all(.vms[]; .agent)' >/dev/null; }

ctl() { timeout 300 "$ninjactl" -s "$dir/s" "$@"; }

# move_lab_up: a lab with the whole product in its guests, and ninjad.
move_lab_up() {
    mkdir -p "$dir"
    make -s -C "$build" install DESTDIR="$dir/payload" >"$dir/install" 2>&1 || fail "make install: $(tail -n 5 "$dir/install")"
    lab_up --payload "$dir/payload"
    rm -rf "$dir/payload"
    "$lab" inventory >"$dir/inventory.yaml"
    "$lab" observe --listen "$observer" --json "$dir/observer.json" >"$dir/observer.log" 2>&1 &
}

job_start() {
    "$lab" ssh node1 "exec timeout 500 mpirun --am ninja --map-by node -n 2 --host node1,node2 ninja-soak --duration 0 \
        --rate 200 --max-size 64K --stall-limit 120 --observer $observer --json /root/soak.json" \
        >"$dir/job.log" 2>&1 </dev/null &
    job_pid=$!
    check "the job has begun" until_true 60 job_on_fabric
}
# Its HCA sends: only the job uses it.
job_on_fabric() {
    local before
    before=$(hca_packets node1) && sleep 1 && (($(hca_packets node1) > before))
}
hca_packets() { "$lab" ssh "$1" cat /sys/class/infiniband/rxe0/ports/1/hw_counters/sent_pkts 2>/dev/null; }
job_alive() { kill -0 "$job_pid" 2>/dev/null || fail "the job ended: $(tail -n 20 "$dir/job.log")"; }
job_end() {
    job_alive
    "$lab" ssh node1 'kill -USR1 $(pgrep -x mpirun)'
    wait "$job_pid" || fail "the job failed: $(tail -n 20 "$dir/job.log")"
    "$lab" ssh node1 cat /root/soak.json >"$dir/soak.json"
    jq -c '{result, messages_sent, messages_verified, lost, duplicated, corrupt, longest_stall_s}' "$dir/soak.json"
    jq -e '.result == "ok" and .messages_sent > 0 and .messages_sent == .messages_verified and
        .lost + .duplicated + .corrupt == 0' "$dir/soak.json" >/dev/null || fail "messages"
    echo "ok: nothing lost, duplicated or corrupt"
}

vm_member() { ctl status --json | jq -r --arg vm "$1" ".vms[] | select(.name == \$vm) | .$2"; }
last_move() { ctl history --json | jq -r ".moves[-1].$1"; }
last_state_is() { [[ $(last_move state) == "$1" ]]; }
last_ended() { [[ $(last_move ended_at) != null ]]; }

# exactly_one VM HOST: one copy runs, there and nowhere else, not even stopped or paused.
exactly_one() {
    local host seen=''
    for host in private-a private-b public-a public-b; do
        "$lab" virsh "$host" list --all --name | grep -qx "$1" && seen+="$host:$("$lab" virsh "$host" domstate "$1") "
    done
    check_equal "copies of $1" "$seen" "$2:running "
}

# in_copy VM: waits until the copy of its move is well under way.
in_copy() { [[ $(last_move vm) == "$1" && $(last_move state) == COPYING ]]; }
copy_begun() { until_true 30 in_copy "$1" && sleep 3 && in_copy "$1"; }

# A WAN that makes a copy take about 20 s.
wan_slow() { "$lab" wan set --rate-mbit 60 >/dev/null; }
wan_fast() { "$lab" wan set --rate-mbit 900/490 >/dev/null; }
