#!/bin/bash
# Tests one-sided communication: fence, post-start-complete-wait, locks, all operations, three kinds of windows.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/mpi/common.sh"
# Debian's configuration takes osc/pt2pt away, without which nothing serves windows across hosts on ob1.
NETNS_MCA+=(--mca osc ^ucx)
mpi_run 4 mpi-onesided
exit 0
