#!/bin/bash
# Tests derived datatypes of all kinds.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/mpi/common.sh"
NETNS_SHARED_MEMORY=
mpi_run 3 mpi-datatypes
exit 0
