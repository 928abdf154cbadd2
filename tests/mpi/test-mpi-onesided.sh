#!/bin/bash
# Tests one-sided communication: fence, post-start-complete-wait, locks, all operations, three kinds of windows.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/mpi/common.sh"
# Active messages in place of remote memory access need all ranks to make progress: slow where processors are few.
NETNS_LIMIT=240 NETNS_TEST_LIMIT=600
case $(ompi_info --version) in
# osc/pt2pt is gone in series 5.0: osc/rdma over the active messages that Open MPI makes of a layer's sends.
*v5.*) NETNS_MCA+=(--mca osc rdma) ;;
# Debian's configuration takes osc/pt2pt away, without which nothing serves windows across hosts on ob1.
*) NETNS_MCA+=(--mca osc ^ucx) ;;
esac
mpi_run 4 mpi-onesided
exit 0
