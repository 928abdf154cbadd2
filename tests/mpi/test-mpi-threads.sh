#!/bin/bash
# Tests the thread levels: MPI_THREAD_MULTIPLE with four threads in each of three ranks, and the lower ones.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/mpi/common.sh"
NETNS_SHARED_MEMORY=
mpi_run 3 mpi-threads --level multiple
# btl/tcp is the same for these.
MPI_VARIANTS=switched MPI_SECONDS=2
for level in serialized funneled; do
    mpi_variants_run 3 mpi-threads --level $level
done
exit 0
