#!/bin/bash
# Performance and control variables are there for MPI_T, count the traffic, see replays and stalls, and can be changed.
# SPDX-License-Identifier: BSD-3-Clause
set -u
. "${srcdir:-.}/tests/build-tree.sh"
ompi_use_build_tree "$PWD/.."
ompi_load_sanitizers "$PWD/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=ninja,self OMPI_MCA_osc=^ucx
export OMPI_MCA_btl_ninja_control_dir=$work/ranks OMPI_MCA_btl_ninja_agent=none
export OMPI_MCA_btl_ninja_lifeline=lo OMPI_MCA_btl_ninja_fabrics=fast=tcp@lo
"${MPICC:-mpicc}" -o "$work/read" "${srcdir:-.}/tests/mpi-t-read.c" || exit 99

# Runs the reader with the options given, and with $write as its argument if that is set; fails the test if it does.
job() {
    timeout 60 mpirun --oversubscribe -n 2 --mca mpi_yield_when_idle 1 "$@" "$work/read" ${write-} \
        >"$work/log" 2>&1 </dev/null && return
    echo "FAILED: $*"
    cat "$work/log"
    exit 1
}

# The sum of the values of variable $1.
value() {
    awk -v name="$1" '$1 == name { for (i = 2; i <= NF; i++) sum += $i; print sum + 0 }' "$work/log"
}

# $1 says what; the rest is a condition for test(1).
check() {
    local what=$1
    shift
    if [ "$@" ]; then
        echo "ok: $what"
    else
        echo "FAILED: $what: $*"
        cat "$work/log"
        exit 1
    fi
}

job --mca btl_ninja_drain_limit 432
check "control variables are what was configured" "$(value drain_limit)" -eq 432
check "nothing is replayed in peace" "$(value replayed)" -eq 0
check "a peer outside MPI, a small inbox, a small limit: kept for replay" "$(value retained)" -gt 0
write=2
job --mca btl_ninja_fault drop=20,reorder=10,seed=3
check "events of paths are told once that is asked for" "$(grep -ac 'ninja .*path fast to' "$work/log")" -ge 1
write=0
job --mca btl_ninja_fault drop=20,reorder=10,seed=3
check "and not otherwise" "$(grep -ac 'ninja .*path fast to' "$work/log")" -eq 0
check "switches are counted" "$(value switches)" -ge 1
check "replays are counted" "$(value replayed)" -ge 1
check "lifelines made anew are counted" "$(value reconnects)" -ge 1
check "stalls are in the histogram" "$(value stalls)" -ge 1
check "the longest stall is known" "$(value stall_longest)" -ge 1
ompi_info --all --parsable >"$work/log" 2>&1
for name in messages_sent messages_received bytes_sent bytes_received switches replayed duplicates reconnects reads \
    retained_bytes stalls stall_longest; do
    check "ompi_info explains $name" "$(grep -c "pvar:btl_ninja_$name:help:..........*" "$work/log")" -eq 1
done
# Which can be changed while the job runs.
ompi_info --param btl ninja --level 9 --parsable >"$work/log" 2>&1
for name in drain_limit release_limit open_limit retry refused_limit retain_low retain_high inbox_limit verbose; do
    check "$name can be changed" "$(grep -c "param:btl_ninja_$name:status:writeable" "$work/log")" -eq 1
done
for name in lifeline fabrics control_dir agent fault congestion; do
    check "$name cannot be changed" "$(grep -c "param:btl_ninja_$name:status:read-only" "$work/log")" -eq 1
done
