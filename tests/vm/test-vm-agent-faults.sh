#!/bin/bash
# The agent killed in each state, hostile frames from the guest, and a VM that moves to another host.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/agent-common.sh"
agent_lab_up
# The lab's init pauses a second before it starts the agent again.
again() { until_true 15 agent_is_new "$1"; }

check "the fabric is announced" resume 1
start_verbs verbs
check "the program holds its HCA" until_true 10 said verbs 'present ib0: rxe0'

old=$(agent_pid)
check "killed while idle" restart_agent
check "there is another agent" again "$old"
check_equal "the fabric is present" "$(agent_state)" present

check "the program registered again" until_true 10 in1 'test $(grep -c present /tmp/verbs) -eq 2'

# A process that is stopped cannot answer: the release stays in its second phase for 2 s.
in1 'kill -STOP $(cat /tmp/verbs.pid)'
old=$(agent_pid)
release >"$NINJA_LAB_STATE/release.out" 2>&1 &
sleep 1.2
check "withheld" in1 '! test -e /dev/infiniband/uverbs0'
check "killed while it asks" restart_agent
wait $! && fail "the release succeeded"
check "the host hears that it was undone" grep -q 'restarted; the release was undone' "$NINJA_LAB_STATE/release.out"
check "the node is back" in1 test -c /dev/infiniband/uverbs0
in1 'kill -CONT $(cat /tmp/verbs.pid)'
check "the program holds its HCA again" until_true 10 in1 'tail -n 1 /tmp/verbs | grep -q "present ib0: rxe0"'

check "release" release
old=$(agent_pid)
check "killed when released" restart_agent
check "there is another agent" again "$old"
check_equal "still released" "$(agent_state)" released
check "still withheld" in1 '! test -e /dev/infiniband/uverbs0'

check "unplugged" ctl detach ua-hca0
old=$(agent_pid)
resume 2 >"$NINJA_LAB_STATE/resume.out" 2>&1 &
sleep 1
check "killed while a resume waits" restart_agent
check "there is another agent" again "$old"
check "plugged in" ctl attach "$NINJA_LAB_STATE/hosts/private-a/hca/hca0.xml"
wait $! || fail "the resume: $(cat "$NINJA_LAB_STATE/resume.out")"
check "the program has its HCA" until_true 10 in1 'tail -n 1 /tmp/verbs | grep -qE "(resumed|present) ib0: rxe0"'

# Hostile bytes: the port is taken from the agent.
in1 'mkdir -p /usr/local/etc; echo "AGENT_OPTIONS=\"--port /run/none\"" >/usr/local/etc/ninja-lab-agent.conf'
restart_agent
(sleep 1; in1 'p=/dev/virtio-ports/org.ninja.symvirt.0
    { printf "\377SYV\0\0\0\2zzzz0000000000000000000000{}"; printf "\377SYV\0\1\0\0\0\0\0\0\0\0\0\0"
      busybox head -c 3000000 /dev/zero | busybox tr "\0" "["; } | timeout 20 cat >$p') &
check "a line in the log, and no answer in time" fails 3 'bad frames from the guest skipped' ctl --timeout 6 ping
wait $!
in1 'rm /usr/local/etc/ninja-lab-agent.conf'
restart_agent
check "the agent answers again" until_true 15 ctl --timeout 1 ping

check "release" release
check "unplugged" ctl detach ua-hca0
check "moved" "$lab" migrate node1 public-a
check_equal "the other host hears the same" "$(on public-a node1 status --json | jq -r '.detail.fabrics[0].state')" released
check "the clock is stepped" on public-a node1 settime
check_between "seconds of difference" "$(($(in1 date +%s) - $(date +%s)))" -2 2
