#!/bin/bash
# Soft-RoCE carries traffic between two guests; an HCA in use cannot be unplugged, a free one can, and comes back.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/common.sh"

sent() { "$lab" ssh "$1" cat /sys/class/infiniband/rxe0/ports/1/hw_counters/sent_pkts; }
hca_active() { "$lab" ssh node1 'rdma link show' 2>/dev/null | grep -q 'rxe0/1 state ACTIVE'; }
hca_of() { "$lab" status | awk -v vm="$1" '$1 == vm { print $4 }'; }

lab_up
before=$(sent node1)
"$lab" ssh node2 timeout 40 ib_write_bw -d rxe0 -x 1 -n 100 -s 65536 >/dev/null &
sleep 1
check "RDMA writes from node1 to node2" "$lab" ssh node1 timeout 30 ib_write_bw -d rxe0 -x 1 -n 100 -s 65536 node2
wait $!
check_between "packets sent by node1's HCA" "$(($(sent node1) - before))" 1600 100000

"$lab" ssh node1 'ib_write_bw -d rxe0 -x 1 >/dev/null 2>&1 & echo $! >/tmp/holder; sleep 1'
"$lab" virsh private-a detach-device-alias node1 ua-hca0 --live
sleep 3
check_equal "an HCA that is held stays" "$(hca_of node1)" hca=52:54:00:ca:00:11
# The events of libvirt, in the order in which they come.
"$lab" virsh private-a event --event device-removed --domain node1 --timeout 20 >"$NINJA_LAB_STATE/events" &
sleep 0.5
"$lab" ssh node1 'kill $(cat /tmp/holder)'
wait $!
check "the holder's end completes the unplug (event)" grep -q ua-hca0 "$NINJA_LAB_STATE/events"
check_equal "unplugged" "$(hca_of node1)" hca=none
check "no verbs device is left in the guest" "$lab" ssh node1 '! ls /sys/class/infiniband/rxe0 2>/dev/null'

check "attach" "$lab" hca attach node1
check "the port is ACTIVE again" until_true 20 hca_active
check_equal "counters belong to the new device instance" "$(($(sent node1) < 1000))" 1
check "detach" "$lab" hca detach node1
