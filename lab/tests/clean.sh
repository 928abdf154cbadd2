#!/bin/bash
# up and down work twice in a row, and down leaves nothing, also after up was killed at any moment.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/common.sh"

# What a lab in this state directory could leave on the machine.
traces() {
    local link
    [[ ! -e $NINJA_LAB_STATE ]] || echo "directory $NINJA_LAB_STATE"
    grep " $NINJA_LAB_STATE" /proc/self/mounts
    # Processes that name the state directory, and this lab's hosts.
    pgrep -af -- "$NINJA_LAB_STATE" | grep -v pgrep
    # Network devices reach the machine's own namespace only by mistake.
    ip -br link | awk '{ print $1 }' | grep -E '^(wan-|far-|lan-|f-|fabric|br-|gre-|vnet|observer|private|public)'
    ls -d "/sys/fs/cgroup/cpu/ninja-lab-$(stat -c %i /)-$(printf %s "$NINJA_LAB_STATE" | sha256sum | cut -c1-8)" 2>/dev/null
}

# A process that was just killed may take a moment to vanish.
clean() { [[ -z $(traces) ]]; }
check_clean() { until_true 10 clean || fail "$1 left: $(traces)"; echo "ok: $1 leaves nothing"; }

lab_up
check "a second up" timeout 100 "$lab" up
check "down" timeout 60 "$lab" down
check_clean down
check "a second down" timeout 60 "$lab" down
check_clean "a second down"

for delay in 0.4 0.8 1.2 2 3 4.5; do
    setsid "$lab" --state "$NINJA_LAB_STATE" up >/dev/null 2>&1 &
    up=$!
    sleep $delay
    kill -KILL $up
    wait $up 2>/dev/null
    check "down after up was killed after $delay s" timeout 90 "$lab" down
    check_clean "it"
done
lab_up
check "the guests work" "$lab" ssh node1 true
