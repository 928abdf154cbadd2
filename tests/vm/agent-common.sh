# Shared by the tests of the guest agent in VMs: a lab with our programs in its guests, and ways to ask the agent.
# SPDX-License-Identifier: BSD-3-Clause
build=$(cd "${builddir:-.}/.." && pwd)
. "$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/lab/tests/common.sh"
guestctl=$build/host-coordinator/ninja-guestctl
fabric_uuid=6e696e6a-6100-4000-8000-000000000001
[[ -x $guestctl ]] || skip "built without libvirt-dev"
[[ -x $build/symvirt/tests/verbs-process ]] || skip "built without libibverbs-dev"

# agent_lab_up: a lab whose guests have the agent and the test program.
agent_lab_up() {
    local payload=$NINJA_LAB_STATE.payload
    make -s -C "$build/symvirt" install DESTDIR="$payload" >/dev/null 2>&1 || fail "make install of symvirt"
    make -s -C "$build/guest-agent" install DESTDIR="$payload" >/dev/null 2>&1 || fail "make install of guest-agent"
    install -D "$build/symvirt/tests/verbs-process" "$payload/usr/local/bin/verbs-process"
    (lab_up --payload "$payload")
    local status=$?
    rm -rf "$payload"
    ((status == 0)) || exit "$status"
}

# on HOST VM ARGUMENT...: asks VM's agent through the libvirt of HOST.
on() {
    local host=$1
    shift
    timeout 150 "$guestctl" --connect \
        "qemu+unix:///system?socket=$NINJA_LAB_STATE/hosts/$host/run/libvirt-sock" "$@"
}
ctl() { on private-a node1 "$@"; }
in1() { "$lab" ssh node1 "$@"; }

release() { ctl release ib0 --uuid "$fabric_uuid" --mac 52:54:00:ca:00:11; }
# resume EPOCH
resume() { ctl resume ib0 --uuid "$fabric_uuid" --mac 52:54:00:ca:00:11 --epoch "$1"; }

# fails CODE PATTERN COMMAND...: COMMAND ends with CODE and a line that matches PATTERN.
fails() {
    local code=$1 pattern=$2 output status
    shift 2
    output=$("$@" 2>&1)
    status=$?
    echo "$output"
    [[ $status -eq $code ]] && grep -qE -- "$pattern" <<<"$output"
}

# start_verbs NAME: a process in node1 that holds its HCA by verbs when it may; it prints to /tmp/NAME.
start_verbs() {
    # Nothing may keep ssh's streams, or it would wait.
    in1 "exec >/dev/null 2>&1 </dev/null; mkfifo /tmp/$1.in
        sleep 1000 >/tmp/$1.in & echo \$! >/tmp/$1.sleep
        verbs-process </tmp/$1.in >/tmp/$1 2>&1 & echo \$! >/tmp/$1.pid"
}
said() { in1 "grep -q '$2' /tmp/$1"; }
restart_agent() { in1 'busybox killall -9 symvirt-agentd'; }
agent_state() { ctl status --json | jq -r '.detail.fabrics[0].state'; }
agent_pid() { in1 busybox pidof symvirt-agentd; }
# There is an agent, and it is not the one with process number $1.
agent_is_new() {
    local pid
    pid=$(agent_pid) && [[ -n $pid && $pid != "$1" ]]
}
