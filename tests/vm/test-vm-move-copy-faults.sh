#!/bin/bash
# A copy that is aborted, whose destination's QEMU is killed, or whose WAN is cut: the VM stays, with its HCA.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "$0")/move-common.sh"

# after_failure TEXT: the move was undone and says why; the job goes on over the HCA.
after_failure() {
    wait "$ctl_pid"
    check_equal "exit code of ninjactl" $? 1
    check_equal "state" "$(last_move state)" FAILED
    echo "says: $(last_move failure)"
    [[ $(last_move failure) == *"$1"* ]] || fail "the sentence lacks '$1'"
    exactly_one node1 private-a
    check_equal "HCA" "$(vm_member node1 fabric)" ib0
    check "no disk is left at the destination" eval '! ls "$NINJA_LAB_STATE"/hosts/public-*/lib/images/node1.qcow2 2>/dev/null'
    job_alive
    check "the job uses the HCA" until_true 30 job_on_fabric
}
copy_start() {
    ctl migrate node1 --to public-a >"$dir/ctl" 2>&1 &
    ctl_pid=$!
    check "the copy is under way" copy_begun node1
}

move_lab_up
ninjad_start
job_start
wan_slow

copy_start
check "abort" ctl abort "$(last_move id)"
after_failure "aborted by the user"

copy_start
"$lab" exec public-a pkill -KILL -f 'guest=node1' || fail "no QEMU at the destination"
after_failure "runs on at private-a"

copy_start
"$lab" wan cut
since=$SECONDS
until_true 200 last_ended || fail "the cut is not noticed"
echo "the cut was noticed and undone after $((SECONDS - since)) s"
"$lab" wan heal
after_failure "network"

wan_fast
check "then it moves" ctl migrate node1 --to public-a
exactly_one node1 public-a
job_end
