#!/bin/bash
# Tests one message of more than 2 GiB.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/mpi/common.sh"
available=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
[ "$available" -ge 7 ] || netns_skip "7 GiB of free memory are needed, $available GiB are there"
NETNS_SHARED_MEMORY=
MPI_SECONDS=${MPI_SECONDS:-1}
mpi_run 2 mpi-large
exit 0
