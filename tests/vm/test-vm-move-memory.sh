#!/bin/bash
# Every page of a program that keeps rewriting half of the guest's memory is right after a move there and back.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/move-common.sh"
[[ -x $build/tests/memory-check ]] || fail "memory-check was not built"
move_lab_up
ninjad_start
"$lab" ssh node1 'cat >/tmp/memory-check; chmod +x /tmp/memory-check' <"$build/tests/memory-check"
"$lab" ssh node1 'exec >/dev/null 2>&1 </dev/null; /tmp/memory-check 200 20000 >/tmp/memory.log 2>&1 & echo $! >/tmp/memory.pid'
passes() { "$lab" ssh node1 'grep -c ^pass /tmp/memory.log' 2>/dev/null; }
passes_reach() { (($(passes || echo 0) >= $1)); }
check "it has gone over all pages" until_true 60 passes_reach 1
check "there" ctl migrate node1 --to public-a
check "back" ctl migrate node1 --to private-a
before=$(passes)
check "and over all pages again since" until_true 90 passes_reach $((before + 2))
"$lab" ssh node1 'kill $(cat /tmp/memory.pid); sleep 1; tail -n 3 /tmp/memory.log'
check "no page was wrong" "$lab" ssh node1 'grep -qE "^51200 pages, [0-9]+ passes, 0 errors$" /tmp/memory.log'
exit 0
