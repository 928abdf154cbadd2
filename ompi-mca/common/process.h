/*
 * The one core of this process, as its components share it: the BTL makes it, the hook watches over
 * it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_PROCESS_H
#define NINJA_PROCESS_H

#include "core.h"

/* The core of this process, or NULL. Main thread only. */
NINJA_API struct ninja_core *ninja_process_core(void);

/* Sets it; NULL when it is gone. Main thread only. */
NINJA_API void ninja_process_set_core(struct ninja_core *core);

#endif
