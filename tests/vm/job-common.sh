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
    (lab_up --payload "$payload" "$@")
    local status=$?
    rm -rf "$payload" "$NINJA_LAB_STATE.install"
    ((status == 0)) || exit "$status"
    "$lab" observe --listen "$observer" --json "$NINJA_LAB_STATE/observer.json" >"$NINJA_LAB_STATE/observer.log" 2>&1 &
    vms_note
    vm_open node1
    vm_open node2
}

# What 'lab status' says of the VMs; they do not move in these tests.
declare -A vm_host vm_mac vm_in vm_out
vms_note() {
    local vm host mac
    while read -r vm host mac; do
        vm_host[$vm]=$host vm_mac[$vm]=$mac
    done < <("$lab" status | awk '/^host/ { host = $2 } /^ / { sub(/^hca=/, "", $4); print $1, host, $4 }')
}

# vm_open VM: a shell in VM that stays open for in_vm: a new ssh session for each question would cost more than the answer.
vm_open() {
    local vm=$1 in out
    mkfifo "$NINJA_LAB_STATE/$vm.in" "$NINJA_LAB_STATE/$vm.out"
    "$lab" ssh "$vm" 'while IFS= read -r line; do eval "$line" </dev/null; printf "\nend %d\n" $?; done' \
        <"$NINJA_LAB_STATE/$vm.in" >"$NINJA_LAB_STATE/$vm.out" 2>"$NINJA_LAB_STATE/$vm.err" &
    exec {in}>"$NINJA_LAB_STATE/$vm.in" {out}<"$NINJA_LAB_STATE/$vm.out"
    vm_in[$vm]=$in vm_out[$vm]=$out
}

# vm_close VM: ends that shell; it may be opened anew.
vm_close() {
    local in=${vm_in[$1]} out=${vm_out[$1]}
    exec {in}>&- {out}<&-
    rm -f "$NINJA_LAB_STATE/$1.in" "$NINJA_LAB_STATE/$1.out"
}

# in_vm VM COMMAND: prints what COMMAND (one line) prints in VM; its exit code, or 124 after 60 s without a line.
in_vm() {
    local line output=''
    echo "$2" >&"${vm_in[$1]}"
    # All of it is read before anything is printed: whoever reads that may end early.
    while IFS= read -r -t 60 line <&"${vm_out[$1]}"; do
        if [[ $line =~ ^end\ ([0-9]+)$ ]]; then
            [[ -z $output ]] || printf %s "$output"
            return "${BASH_REMATCH[1]}"
        fi
        [[ -z $line ]] || output+=$line$'\n'
    done
    return 124
}

# ctl VM COMMAND ARG...: asks the agent of VM, or libvirt about it.
ctl() {
    local vm=$1
    shift
    timeout 150 "$guestctl" --connect \
        "qemu+unix:///system?socket=$NINJA_LAB_STATE/hosts/${vm_host[$vm]}/run/libvirt-sock" \
        --uuid "$fabric_uuid" "$vm" "$@"
}
# announce VM: tells the agent which device its fabric has, as it is at the start.
announce() { ctl "$1" resume ib0 --epoch 1 --mac "${vm_mac[$1]}"; }

# job_start PER_NODE SOAK_ARG...: ninja-soak on node1 and node2, until job_end. job_mca: further options of mpirun.
job_start() {
    local per_node=$1
    shift
    "$lab" ssh node1 "exec timeout 500 mpirun --am ninja --map-by node -n $((2 * per_node)) \
        --host node1:$per_node,node2:$per_node --mca btl_ninja_verbose ${job_verbose:-1} ${job_mca:-} ninja-soak --duration 0 --max-size 64K --rate 200 \
        --stall-limit 60 --observer $observer --json /root/soak.json $*" >"$NINJA_LAB_STATE/job.log" 2>&1 </dev/null &
    job_pid=$!
}

# status VM: what the ranks in VM say.
status() { in_vm "$1" 'ninja-rankctl status --json'; }
# The links between the nodes are all on $1, seen from both nodes. Ranks are placed by turns, so those of one node are
# all even or all odd; their links among themselves carry no data (shared memory does).
links_are_on() {
    local vm
    for vm in node1 node2; do
        status "$vm" 2>/dev/null | jq -e --arg on "$1" '[.. | objects | select(has("links")) | .rank as $own | .links[] |
            select(.rank % 2 != $own % 2) | .transport] | length >= 1 and all(.[]; . == $on)' >/dev/null || return 1
    done
}
# switches_to TRANSPORT: how often a rank has said that a link went there.
switches_to() { grep -c -- "-> $1 at sequence" "$NINJA_LAB_STATE/job.log"; }
switches_are() { (($(switches_to "$1") >= $2)); }
# links_switch SECONDS TRANSPORT BEFORE: each rank says that its link has gone there since there were BEFORE switches; only
# then is it asked where it is.
links_switch() {
    until_true "$1" switches_are "$2" $(($3 + 2)) && until_true 10 links_are_on "$2"
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

device_is_ready() { "$lab" ssh node1 'grep -q ACTIVE /sys/class/infiniband/rxe0/ports/1/state' </dev/null; }
# job_on_node1 FILE ARG...: two ranks of the program FILE over verbs in node1, whose processor they share. What they print
# is in job.log.
job_on_node1() {
    local file=$1
    shift
    "$lab" ssh node1 'cat >/tmp/program && chmod +x /tmp/program' <"$file" || fail "$file does not get into the guest"
    until_true 60 device_is_ready || fail "rxe0 does not become ACTIVE"
    timeout 130 "$lab" ssh node1 "timeout 120 mpirun -n 2 --host localhost:2 --mca mpi_yield_when_idle 1 --am ninja \
        --mca btl ninja,self --mca btl_ninja_fabrics ib=verbs@rxe0 --mca btl_ninja_agent none --mca btl_ninja_verbose 2 \
        /tmp/program $*" </dev/null >"$NINJA_LAB_STATE/job.log" 2>&1 || { cat "$NINJA_LAB_STATE/job.log"; return 1; }
}

# device_counter VM: "INSTANCE PACKETS" of its HCA; the instance is the number of its network interface, never used twice.
packets=/sys/class/infiniband/rxe0/ports/1/hw_counters/sent_pkts
device_counter() { in_vm "$1" "echo \$(cat /sys/class/net/hca0/ifindex $packets)"; }
# The packets of VM's HCA go up, by at least $2 within $3 s.
counter_grows() {
    in_vm "$1" "read -r from <$packets; n=0; while sleep 0.1; do read -r to <$packets; [ \$((to - from)) -lt $2 ] || break; \
        n=\$((n + 1)); [ \$n -lt $(($3 * 10)) ] || break; done; [ \$((to - from)) -ge $2 ]"
}
counter_stands_still() {
    in_vm "$1" "read -r from <$packets; sleep 1.5; read -r to <$packets; echo \"\$from, then \$to\"; [ \$from = \$to ]"
}
