/*
 * The one core of this process.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "process.h"

static struct ninja_core *process_core;

struct ninja_core *ninja_process_core(void)
{
    return process_core;
}

void ninja_process_set_core(struct ninja_core *core)
{
    process_core = core;
}
