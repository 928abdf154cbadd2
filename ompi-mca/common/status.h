/*
 * What a rank tells about itself: fabrics, links, transports, counters, as JSON.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_STATUS_H
#define NINJA_STATUS_H

#include <jansson.h>

struct ninja_core;

/* The whole status (new reference), or NULL. The gate is held. */
json_t *ninja_status(struct ninja_core *core);

/* Only {"fabrics": [...]} (new reference). The gate is held. */
json_t *ninja_status_fabrics(struct ninja_core *core);

#endif
