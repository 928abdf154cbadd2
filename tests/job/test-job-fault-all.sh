#!/bin/bash
# Tests that all faults at once, among four ranks, lose and repeat nothing.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/job/fault.sh"
NINJA_FAULT_SIZE=1M fault_run 4 \
    drop=400,duplicate=50,delay=200,reorder=50,reset=400,kill=800,gone=100 2 1 2
exit 0
