#!/bin/bash
# The WAN delays, limits, breaks and heals as told, and leaves traffic inside a site alone.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/common.sh"

pings() { "$lab" exec "$1" ping -q -c 3 -i 0.1 -W 1 -w 3 "$2" >/dev/null; }
measured() { "$lab" wan measure | sed "s/.*$1 \([0-9.]*\) .*/\1/"; }

lab_up --no-guests
check_between "round trip between the sites in ms" "$(measured RTT)" 6.5 15
check_between "rate out in Mbit/s, set to 900" "$(measured 'private to public')" 100 950

"$lab" wan set --rtt-ms 50 --rate-mbit 50/20 >/dev/null
line=$("$lab" wan measure)
check_between "round trip, set to 50 ms" "$(sed 's/.*RTT \([0-9.]*\) .*/\1/' <<<"$line")" 50 60
check_between "rate out, set to 50 Mbit/s" "$(sed 's/.*private to public \([0-9]*\) .*/\1/' <<<"$line")" 35 52
check_between "rate back, set to 20 Mbit/s" "$(sed 's/.*public to private \([0-9]*\) .*/\1/' <<<"$line")" 13 21

"$lab" wan cut >/dev/null
check "cut: nothing passes" eval '! pings private-a 10.77.2.11'
check "cut: the site itself works" pings private-a 10.77.1.12
"$lab" wan heal >/dev/null
check "healed: it passes again" pings private-a 10.77.2.11
