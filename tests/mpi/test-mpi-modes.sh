#!/bin/bash
# Tests point-to-point in every mode, blocking, non-blocking and persistent, on 3 ranks without shared memory.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/mpi/common.sh"
NETNS_SHARED_MEMORY=
mpi_run 3 mpi-modes
exit 0
