#!/bin/bash
# Tests wildcards, probes, cancelled and truncated receives, and waiting for some of many.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/mpi/common.sh"
mpi_run 4 mpi-matching
exit 0
