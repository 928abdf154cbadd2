#!/bin/bash
# Tests MPI_THREAD_MULTIPLE with four threads in each of three ranks.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/mpi/common.sh"
NETNS_SHARED_MEMORY=
mpi_run 3 mpi-threads
exit 0
