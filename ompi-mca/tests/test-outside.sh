#!/bin/bash
# A rank's control thread answers its peer while the application is outside MPI: on the lifeline and on a fabric.
# SPDX-License-Identifier: BSD-3-Clause
set -u
. "${srcdir:-.}/tests/build-tree.sh"
ompi_use_build_tree "$PWD/.."
ompi_load_sanitizers "$PWD/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=ninja,self OMPI_MCA_osc=^ucx
export OMPI_MCA_btl_ninja_control_dir=$work/ranks OMPI_MCA_btl_ninja_agent=none OMPI_MCA_btl_ninja_lifeline=lo
"${MPICC:-mpicc}" -o "$work/get" "${srcdir:-.}/tests/get-outside.c" || exit 99
for fabrics in '' fast=tcp@lo; do
    echo "fabrics: ${fabrics:-none}"
    OMPI_MCA_btl_ninja_fabrics=$fabrics timeout 100 mpirun --oversubscribe -n 2 --mca mpi_yield_when_idle 1 "$work/get" \
        </dev/null 2>&1 || exit 1
done
