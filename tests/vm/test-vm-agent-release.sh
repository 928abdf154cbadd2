#!/bin/bash
# A program without MPI gives up its HCA and gets it back; a foreign holder is named in time and disturbs nobody.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/agent-common.sh"
agent_lab_up

check "the agent answers" ctl ping
check "the fabric is announced" resume 1
start_verbs verbs
check "the program got the fabric and opened its HCA" until_true 10 said verbs 'present ib0: rxe0'
# The device is not free, so libvirt alone would get stuck; with the agent it comes free.
check "release" release
check "the program gave its HCA up" said verbs 'released ib0'
check "the node is withheld" in1 '! test -e /dev/infiniband/uverbs0'
check "unplugged by event" ctl detach ua-hca0
check "nothing is left of the device" in1 '! ls /sys/class/infiniband/* /dev/infiniband/.symvirt-withheld/* 2>/dev/null'
start_verbs late
check "plugged in" ctl attach "$NINJA_LAB_STATE/hosts/private-a/hca/hca0.xml"
check "usable, and the programs were told" resume 2
check "the program has its HCA again" said verbs 'resumed ib0: rxe0'
check "so has the one that was started meanwhile" said late 'resumed ib0: rxe0'
in1 'kill $(cat /tmp/late.pid) $(cat /tmp/late.sleep)'

in1 'exec >/dev/null 2>&1 </dev/null; ib_write_bw -d rxe0 -x 1 & echo $! >/tmp/holder; sleep 1'
holder=$(in1 cat /tmp/holder)
before=$SECONDS
check "a foreign holder is named" fails 1 "rxe0 is held by ib_write_bw \(process $holder" release
check_between "seconds until the refusal" $((SECONDS - before)) 0 6
check "the node is back" in1 test -c /dev/infiniband/uverbs0
check "the program was not disturbed" in1 'test $(grep -c released /tmp/verbs) -eq 1'
check "without its holder" in1 "kill $holder"
check "the device comes free" release
check "and back" resume 3
check "the agent's memory and CPU (kB, ticks)" in1 'p=$(busybox pidof symvirt-agentd)
    grep -E "VmRSS|RssAnon" /proc/$p/status; cut -d" " -f14,15 /proc/$p/stat; sleep 10; cut -d" " -f14,15 /proc/$p/stat'
