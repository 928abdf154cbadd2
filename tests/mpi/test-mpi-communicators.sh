#!/bin/bash
# Tests communicators of all makes: parts, topologies, two groups.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/mpi/common.sh"
mpi_run 4 mpi-communicators
exit 0
