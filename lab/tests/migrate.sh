#!/bin/bash
# A guest moves from private to public and back by libvirt; its address stays and a ping from the other guest goes on.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/common.sh"

where() { "$lab" status | awk -v vm=node1 '$1 == "host" { host = $2 } $1 == vm { print host }'; }
hca_active() { "$lab" ssh node1 'rdma link show' 2>/dev/null | grep -q 'rxe0/1 state ACTIVE'; }

lab_up
check "a marker in memory and on disk" "$lab" ssh node1 'echo 42 >/dev/shm/m; echo 43 >/root/d; cat /proc/sys/kernel/random/boot_id >/dev/shm/b'
check "refused with an HCA attached" eval '! "$lab" migrate node1 public-a 2>/dev/null'
check "detach" "$lab" hca detach node1
"$lab" ssh node2 ping -D -i 0.01 -w 60 node1 >"$NINJA_LAB_STATE/ping" &
ping=$!
sleep 1
check "to the public site" timeout 60 "$lab" migrate node1 public-a
check_equal "runs at" "$(where)" public-a
sleep 1
check "back" timeout 60 "$lab" migrate node1 private-a
check_equal "runs at" "$(where)" private-a
sleep 1
"$lab" ssh node2 pkill -INT ping
wait $ping
# The longest gap between two answers, by the pinging guest's clock.
gap=$(awk -F'[][]' '/bytes from/ { if (last && $2 - last > g) g = $2 - last; last = $2 } END { print g }' \
    "$NINJA_LAB_STATE/ping")
check_between "longest gap of the ping in s" "$gap" 0.01 3
check "answers after the last move" eval "tail -n 3 '$NINJA_LAB_STATE/ping' | grep -q received"
check "MAC and address" "$lab" ssh node1 'ip addr show eth0 | grep -q 10.88.0.11/24 && grep -q 52:54:00:88:00:01 /sys/class/net/eth0/address'
check_equal "memory" "$("$lab" ssh node1 'cat /dev/shm/m; cmp /dev/shm/b /proc/sys/kernel/random/boot_id')" 42
check_equal "disk" "$("$lab" ssh node1 cat /root/d)" 43
check "an HCA again" "$lab" hca attach node1
check "ACTIVE" until_true 20 hca_active
