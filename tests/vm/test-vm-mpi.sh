#!/bin/bash
# What MPI promises (the programs of tests/mpi), over verbs between two guests, while ranks give up the device at random.
# SPDX-License-Identifier: BSD-3-Clause
#
# MPI_SECONDS is how long each program runs (default 20; its first round always ends), MPI_SEED what is random in it and
# in the switches (default: another one each time; it is printed), MPI_PROGRAMS which programs to run.
. "$(dirname "$0")/job-common.sh"
MPI_SEED=${MPI_SEED:-$((RANDOM * 30 + RANDOM % 30 + 1))}
MPI_SECONDS=${MPI_SECONDS:-20}
MPI_PROGRAMS=${MPI_PROGRAMS:-mpi-modes mpi-matching mpi-datatypes mpi-threads mpi-collectives mpi-communicators mpi-onesided}
read -ra programs <<<"$MPI_PROGRAMS"
make -s -C "$build/tests" switch-storm "${programs[@]}" >/dev/null || fail "the programs cannot be built"
job_lab_up
vms=(node1 node2)
for vm in "${vms[@]}"; do
    tar -C "$build/tests" -cf - switch-storm "${programs[@]}" | "$lab" ssh "$vm" 'tar -C /tmp -xf -' ||
        fail "the programs do not get into $vm"
    check "$vm has its RDMA device" until_true 60 in_vm "$vm" 'grep -q ACTIVE /sys/class/infiniband/rxe0/ports/1/state'
done

# storm VM: the ranks in VM, two of them, release and resume the device until the job ends.
storm() {
    timeout 660 "$lab" ssh "$1" "/tmp/switch-storm --dir /tmp/control --ranks 2 --fabric ib --interval 500 --overlap 5 --duration 600 \
        --limit 30000 --seed $MPI_SEED" </dev/null >"$NINJA_LAB_STATE/storm-$1.json" 2>"$NINJA_LAB_STATE/storm-$1.log"
}

# program_run PROGRAM ARG...: four ranks, all links over btl/ninja, also those within a guest.
program_run() {
    local program=$1 vm log=$NINJA_LAB_STATE/job.log storms=() begin=$SECONDS
    shift
    for vm in "${vms[@]}"; do
        in_vm "$vm" 'rm -rf /tmp/control; mkdir -m 700 /tmp/control'
    done
    # Emulated guests on a busy machine take seconds for what takes milliseconds elsewhere.
    timeout 620 "$lab" ssh node1 "timeout 600 mpirun -n 4 --host node1:2,node2:2 --map-by node --mca mpi_yield_when_idle 1 \
        --am ninja --mca btl ninja,self --mca btl_ninja_fabrics ib=verbs@rxe0 --mca btl_ninja_agent none \
        --mca btl_ninja_control_dir /tmp/control --mca btl_ninja_release_limit 25000 --mca btl_ninja_verbose 1 \
        /tmp/$program --seconds $MPI_SECONDS --seed $MPI_SEED $*" \
        </dev/null >"$log" 2>&1 &
    job_pid=$!
    for vm in "${vms[@]}"; do
        until_true 60 in_vm "$vm" '[ "$(ls /tmp/control | grep -c "[.]sock$")" = 2 ]' ||
            fail "$program: two ranks do not listen in $vm: $(tail -n 20 "$log")"
        storm "$vm" &
        storms+=($!)
    done
    wait "$job_pid" || fail "$program (seed $MPI_SEED): $(tail -n 20 "$log")"
    wait "${storms[@]}"
    ! grep -q WRONG "$log" || fail "$program (seed $MPI_SEED): $(grep -m 3 WRONG "$log")"
    for vm in "${vms[@]}"; do
        cat "$NINJA_LAB_STATE/storm-$vm.json"
        jq -se '.[0] | .releases >= 3 and .resumes >= 3 and .failed == 0' "$NINJA_LAB_STATE/storm-$vm.json" >/dev/null ||
            fail "$program: hardly any switch in $vm, or one failed: $(cat "$NINJA_LAB_STATE/storm-$vm.log")"
    done
    check "$program was on verbs" grep -q 'lifeline -> ib at' "$log"
    echo "$(grep verified "$log") ($((SECONDS - begin)) s)"
}

echo "seed $MPI_SEED"
for program in "${programs[@]}"; do
    case $program in
    mpi-threads) program_run $program --level multiple ;;
    *) program_run "$program" ;;
    esac
done
exit 0
