#!/bin/bash
# ninjad is killed during the copy and after the RESUME: started again it takes the move up and finishes it.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/move-common.sh"
move_lab_up
ninjad_start
job_start
wan_slow

ctl migrate node1 --to public-a >"$dir/ctl" 2>&1 &
ctl_pid=$!
check "the copy is under way" copy_begun node1
ninjad_kill
ninjad_start
wait "$ctl_pid"
check_equal "ninjactl waited across the restart" $? 0
check_equal "state" "$(last_move state)" DONE
ctl history --json | jq -c '.moves[0].phases'
check "progress was seen after the restart" jq -e '.moves[0].phases.memory > 1' <(ctl history --json)
check "it was the same copy" eval 'ctl explain "$(last_move id)" | grep -q "COPYING *taken up"'
exactly_one node1 public-a
job_alive

# Killed in the moment in which the destination has resumed the VM.
ctl --json migrate node1 --to private-a >"$dir/ctl" 2>&1 &
ctl_pid=$!
check "the VM resumed" until_true 90 grep -q '"state":"SWITCHING"' "$dir/ctl"
ninjad_kill
sleep 1
ninjad_start
wait "$ctl_pid"
check_equal "ninjactl waited across the restart" $? 0
check_equal "state" "$(last_move state)" DONE
exactly_one node1 private-a
check_equal "HCA" "$(vm_member node1 fabric)" ib0
check "the job uses the HCA" until_true 30 job_on_fabric

# Killed while it undoes: the HCA comes back all the same.
ctl --json migrate node1 --to public-a >"$dir/ctl" 2>&1 &
ctl_pid=$!
check "the copy is under way" copy_begun node1
ctl abort "$(last_move id)" >/dev/null
check "it is being undone" until_true 20 grep -q '"state":"UNDOING"' "$dir/ctl"
ninjad_kill
ninjad_start
wait "$ctl_pid"
check_equal "state" "$(last_move state)" FAILED
exactly_one node1 private-a
check_equal "HCA" "$(vm_member node1 fabric)" ib0
job_end
