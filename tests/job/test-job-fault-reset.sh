#!/bin/bash
# Tests that connections which break at random under load lose and repeat nothing.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/job/fault.sh"
fault_run 2 reset=200 5 1 2
exit 0
