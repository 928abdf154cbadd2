#!/bin/bash
# The installed components are found and used by `mpirun --am ninja`, started as docs/open-mpi.md says for Debian 13.
# SPDX-License-Identifier: BSD-3-Clause
set -eu
make -C "$builddir" install >/dev/null
ldconfig
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# These lines are in docs/open-mpi.md.
export OMPI_MCA_mca_base_component_path=$(ompi_info --parsable --path pkglibdir | cut -d: -f3)
export PMIX_MCA_mca_base_component_path=$(pkg-config --variable=libdir pmix)/pmix
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
timeout 60 mpirun --am ninja --prtemca oob_tcp_keepalive_time 0 --oversubscribe -n 2 --mca btl ninja,self \
    --mca btl_ninja_lifeline lo --mca btl_ninja_verbose 3 "$builddir/benchmarks/ninja-soak" --duration 2 \
    --json "$work/soak.json" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
cat "$work/log"
jq -e '.result == "ok" and .messages_verified > 0' "$work/soak.json"
# It was ours, and the parameter set was read.
grep -q 'ninja' "$work/log"
timeout 60 mpirun --am ninja --oversubscribe -n 1 env | grep -x 'OMPI_MCA_pml=ob1'
