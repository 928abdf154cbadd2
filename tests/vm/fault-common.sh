# Shared by the tests of injected faults over verbs: ninja-soak between two VMs of which only one injects them, so that the
# other can have learnt of them only over the lifeline.
# SPDX-License-Identifier: BSD-3-Clause
. "$(dirname "${BASH_SOURCE[0]}")/job-common.sh"
seed=${NINJA_FAULT_SEED:-7}
# What failed, with the events of the faults and paths.
fail() {
    echo "FAIL: $*"
    grep -E 'fault|failed|in OPEN|lost| at sequence' "$NINJA_LAB_STATE/job.log" | tail -n 60
    exit 1
}

# soak_start FAULT: ninja-soak over verbs with FAULT injected by rank 0.
soak_start() {
    local command='exec timeout 400 mpirun --am ninja --gmca btl_ninja_agent none --gmca btl_ninja_fabrics ib=verbs@rxe0 \
        --gmca btl_ninja_verbose 2' node=1 fault
    for fault in "$1" ''; do
        ((node == 1)) || command+=' :'
        command+=" -n 1 --host node$node env OMPI_MCA_btl_ninja_fault=$fault \
            ninja-soak --duration 0 --seed $seed --max-size ${soak_max_size:-256K} --rate ${soak_rate:-200} --stall-limit 30 --json /root/soak.json"
        node=$((node + 1))
    done
    "$lab" ssh node1 "$command" >"$NINJA_LAB_STATE/job.log" 2>&1 </dev/null &
    job_pid=$!
    until_true 120 links_are_on ib || fail "the job is not on verbs: $(tail -n 20 "$NINJA_LAB_STATE/job.log")"
}

# said RANK PATTERN: how often the rank has said so.
said() { grep -cE "ninja [0-9]+\.$1 [0-9]+: .*$2" "$NINJA_LAB_STATE/job.log"; }
said_often() { (($(said "$1" "$2") >= $3)); }

job_lab_up
