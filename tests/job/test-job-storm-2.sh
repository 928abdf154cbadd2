#!/bin/bash
# Tests that 2 ranks lose nothing while they switch transports at random each 50 ms for a minute.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/job/storm.sh"
storm_run 2
exit 0
