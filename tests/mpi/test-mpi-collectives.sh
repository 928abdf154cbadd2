#!/bin/bash
# Tests all collectives, blocking and non-blocking.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/mpi/common.sh"
mpi_run 4 mpi-collectives
exit 0
