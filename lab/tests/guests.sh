#!/bin/bash
# Guests come up with their addresses, reach each other and the observer, and get and lose programs by the payload.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/common.sh"

payload=$NINJA_LAB_STATE.payload
trap 'rm -rf "$payload"; test_end' EXIT
mkdir -p "$payload/usr/local/sbin" "$payload/usr/local/bin"
printf '#!/bin/sh\necho $$ >>/tmp/agent-starts\nexec sleep 1000\n' >"$payload/usr/local/sbin/symvirt-agentd"
echo first >"$payload/usr/local/bin/marker"
chmod 755 "$payload/usr/local/sbin/symvirt-agentd"

in1() { "$lab" ssh node1 "$@"; }

lab_up --payload "$payload"
check_equal "name" "$(in1 hostname)" node1
check_equal "MAC" "$(in1 cat /sys/class/net/eth0/address)" 52:54:00:88:00:01
check "address" eval 'in1 ip -br addr show eth0 | grep -q "10.88.0.11/24"'
check "node1 pings node2" in1 ping -q -c 3 -i 0.2 -w 5 node2
check "node1 pings the observer" in1 ping -q -c 3 -i 0.2 -w 5 observer
check "the observer pings node2" "$lab" observe ping -q -c 3 -i 0.2 -w 5 10.88.0.12
check_equal "ssh among guests" "$(in1 ssh node2 hostname)" node2
check_equal "memlock" "$(in1 'ulimit -l')" unlimited
check_between "clock against the machine's, in s" "$(awk -v g="$(in1 date +%s.%N)" -v m="$EPOCHREALTIME" \
    'BEGIN { print m - g }')" -1 1
check "the channel to the host" in1 test -c /dev/virtio-ports/org.ninja.symvirt.0
check_equal "mpirun over both" "$(in1 mpirun -np 2 -H node1,node2 hostname | sort | tr '\n' ' ')" 'node1 node2 '

check "the agent was started" until_true 10 in1 test -s /tmp/agent-starts
in1 'kill $(tail -n 1 /tmp/agent-starts)'
check "the agent is started again" until_true 10 in1 'test $(wc -l </tmp/agent-starts) -eq 2'
check_equal "payload" "$(in1 cat /usr/local/bin/marker)" first
rm "$payload/usr/local/bin/marker"
echo second >"$payload/usr/local/bin/marker2"
check "a new payload" "$lab" payload "$payload"
check_equal "its file" "$(in1 cat /usr/local/bin/marker2)" second
check "the old payload's file is gone" in1 'test ! -e /usr/local/bin/marker'

in1 touch /root/stays-not
check "restore" "$lab" restore
check "a restored guest is as it was saved" in1 'test ! -e /root/stays-not'
check_equal "and has the present payload" "$(in1 cat /usr/local/bin/marker2)" second

in1 'echo 1 >/root/kept; echo 1 >/dev/shm/kept'
check "save" "$lab" save node1
in1 rm /root/kept /dev/shm/kept
check "restore what was saved" "$lab" restore node1
check_equal "disk and memory" "$(in1 cat /root/kept /dev/shm/kept | tr -d '\n')" 11
