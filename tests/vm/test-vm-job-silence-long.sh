#!/bin/bash
# The same as test-vm-job-silence.sh for as long as a live migration or an outage of a network takes at worst: 21 minutes.
# SPDX-License-Identifier: BSD-3-Clause
NINJA_VM_SILENCES=${NINJA_VM_SILENCES:-node2:300 node1:600 cut:300}
. "$(dirname "$0")/test-vm-job-silence.sh"
