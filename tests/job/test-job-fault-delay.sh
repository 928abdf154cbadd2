#!/bin/bash
# Tests that paths which stand still for some time and again are waited for.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/job/fault.sh"
fault_run 2 delay=50,hold=50 10 1 2
exit 0
