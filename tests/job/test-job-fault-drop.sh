#!/bin/bash
# Tests that frames which are lost with their path are replayed, nothing else.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/job/fault.sh"
fault_run 2 drop=200 5 1 2
exit 0
