#!/bin/bash
# Tests that a fabric whose device is gone is left, and taken up again when it is back.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/job/fault.sh"
fault_run 2 kill=1000,gone=100 2 1 2
exit 0
