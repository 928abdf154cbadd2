#!/bin/bash
# Tests messages from and to memory that is unmapped, moved, dropped and freed in between.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/mpi/common.sh"
NETNS_SHARED_MEMORY=
mpi_run 2 mpi-remap
exit 0
