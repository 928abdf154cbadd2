#!/bin/bash
# Tests dynamic processes: spawn, connect and accept, disconnect.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/mpi/common.sh"
NETNS_SLOTS=8
MPI_CHANGING=yes
netns_up
# The launcher of Open MPI 5.0.7 (PRRTE) damages its own memory when processes are spawned, whatever carries their messages.
case $(ompi_info --version) in *v5.*)
    mpi_variant tcp
    netns_mpirun_start 2 "$(realpath "$builddir")/mpi-dynamic"
    netns_mpirun_wait
    ! grep -aq 'PMIX.* in file .*pmix_server_dyn.c' "$netns_dir/job.log" ||
        netns_skip "prterun cannot spawn, over btl/tcp either: $(grep -am1 -o 'PMIX.*pmix_server_dyn.c.*' "$netns_dir/job.log")"
    ;;
esac
echo "seed $MPI_SEED"
mpi_variants_run 2 mpi-dynamic
exit 0
