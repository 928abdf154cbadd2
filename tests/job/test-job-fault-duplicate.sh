#!/bin/bash
# Tests that frames which arrive twice are taken once.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/job/fault.sh"
fault_run 2 duplicate=5 50 1 2
exit 0
