#!/bin/bash
# crs/symvirt on Open MPI 4.1: opened when selected; every release goes through its checkpoint entry, which waits for
# the resume and reports CONTINUE; a checkpoint that the application takes gives up all fabrics; not selected, it is not there.
# SPDX-License-Identifier: BSD-3-Clause
set -u
[ -e components/mca_crs_symvirt.so ] || { echo "SKIP: this Open MPI has no crs framework"; exit 77; }
components=$PWD/components
system=$(ompi_info --parsable --path pkglibdir | sed 's/^path:pkglibdir://')
incdirs=$(${MPICC:-mpicc} --showme:incdirs)
work=$(mktemp -d)
job=''
trap '[ -z "$job" ] || kill "$job" 2>/dev/null; rm -rf "$work"' EXIT
export LD_LIBRARY_PATH=$PWD/.libs:$PWD/../symvirt/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_mca_base_component_path=$components:$system
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=ninja,self OMPI_MCA_osc=^ucx
export OMPI_MCA_btl_ninja_control_dir=$work/ranks OMPI_MCA_btl_ninja_agent=none
export OMPI_MCA_btl_ninja_lifeline=lo OMPI_MCA_btl_ninja_fabrics=fast=tcp@lo OMPI_MCA_btl_ninja_verbose=1

flags=()
for directory in $incdirs; do
    flags+=("-I$directory" "-I$directory/openmpi")
done
"${MPICC:-mpicc}" "${flags[@]}" -o "$work/checkpoint" "${srcdir:-.}/tests/crs-checkpoint.c" -lopen-pal || exit 99
. "${srcdir:-.}/tests/build-tree.sh"
ompi_load_sanitizers "$PWD/.."

fail() {
    echo "FAILED: $*"
    cat "$work/log"
    exit 1
}

# Asks the ranks.
rankctl() {
    ../symvirt/ninja-rankctl --dir "$work/ranks" "$@"
}

# True once condition $1 (of jq, on the status of one rank) holds for $2 ranks.
holds() {
    [ "$(rankctl status --json 2>/dev/null | jq "[.. | select(.quiesce? and ($1))] | length" 2>/dev/null)" = "$2" ]
}

# Waits up to 20 s for that.
await() {
    local tries
    for ((tries = 0; tries < 200; tries++)); do
        holds "$1" "$2" && return
        sleep 0.1
    done
    rankctl status --json
    fail "$2 ranks never came to this: $1"
}

start() {
    rm -f "$work/go" "$work"/ranks/*.sock
    timeout 90 mpirun --oversubscribe -n 2 --mca mpi_yield_when_idle 1 "$@" >"$work/log" 2>&1 </dev/null &
    job=$!
}

# Lets the job end.
finish() {
    touch "$work/go"
    wait "$job" || fail "the job failed"
    job=''
}

command -v jq >/dev/null || { echo "SKIP: the command jq is missing"; exit 77; }

start --mca crs symvirt "$work/checkpoint" wait "$work/go"
await '.quiesce.checkpointer and .fabrics[0].state == "UP" and .links[0].transport == "fast"' 2
for round in 1 2 3; do
    rankctl release fast >"$work/answer" || fail "release: $(cat "$work/answer")"
    grep -q released "$work/answer" || fail "no rank says that it released: $(cat "$work/answer")"
    await '.quiesce.state == "RELEASED" and .fabrics[0].state == "DOWN"' 2
    rankctl resume fast >"$work/answer" || fail "resume: $(cat "$work/answer")"
    await ".quiesce.state == \"IDLE\" and .quiesce.count == $round and .links[0].transport == \"fast\"" 2
done
# Only one rank: the other stays.
rankctl --rank 1 release fast >"$work/answer" || fail "release: $(cat "$work/answer")"
await '.quiesce.state == "RELEASED"' 1
finish # ends while a checkpoint waits: nobody may hang
[ "$(grep -c 'opal_cr_inc_core_ckpt() ended with CONTINUE' "$work/log")" = 6 ] ||
    fail "Open MPI's entry was not called 3 times in each rank with CONTINUE"
[ "$(grep -c 'crs/symvirt: checkpoint: CONTINUE: resumed' "$work/log")" = 6 ] || fail "not by crs/symvirt"
grep -q "nobody called in time" "$work/log" && fail "a release did not wait for the checkpoint"
echo "ok: releases go through crs/symvirt"

start --mca crs symvirt "$work/checkpoint" take "$work/go"
await '.quiesce.state == "RELEASED" and .fabrics[0].state == "DOWN"' 1
rankctl --rank 0 resume fast >"$work/answer" || fail "resume: $(cat "$work/answer")"
finish
grep -q "^state CONTINUE" "$work/log" || fail "the application did not get CONTINUE"
echo "ok: a checkpoint that the application takes gives up the fabric and waits"

start --mca crs symvirt --mca crs_symvirt_limit 1 "$work/checkpoint" take "$work/go"
finish
grep -q "^state CONTINUE" "$work/log" || fail "the application did not get CONTINUE after the limit"
grep -q "did not come back in time" "$work/log" || fail "the limit did not end it"
echo "ok: a checkpoint whose device does not come back ends at its limit"

start "$work/checkpoint" wait "$work/go"
await '(.quiesce.checkpointer | not) and .links[0].transport == "fast"' 2
rankctl release fast >"$work/answer" || fail "release: $(cat "$work/answer")"
rankctl resume fast >"$work/answer" || fail "resume: $(cat "$work/answer")"
finish
grep -q "crs" "$work/log" && fail "crs/symvirt is there without having been selected"
echo "ok: not selected, releases do without it"

OMPI_MCA_btl=tcp,self start --mca crs symvirt "$work/checkpoint" wait "$work/go"
finish
grep -q "does not use btl/ninja" "$work/log" || fail "a job without btl/ninja is not told"
echo "ok: without btl/ninja it is said that there is nothing to check-point"
