#!/bin/bash
# Tests that frames which are overtaken by later ones wait for their turn.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/job/fault.sh"
fault_run 2 reorder=5 50 1 2
exit 0
