#!/bin/bash
# Tests dynamic processes: spawn, connect and accept, disconnect.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/mpi/common.sh"
NETNS_SLOTS=8
MPI_CHANGING=yes
mpi_run 2 mpi-dynamic
exit 0
