/*
 * What a rank tells about itself: fabrics, links, transports, counters, as JSON.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_STATUS_H
#define NINJA_STATUS_H

#include <jansson.h>
#include <stdint.h>

struct ninja_core;

/* The whole status, with the first page of details (new reference), or NULL. The gate is held. */
json_t *ninja_status(struct ninja_core *core);

/* Links from number `first` on, a page of them, as SYMVIRT_STATUS_LINKS says (new reference). The
 * gate is held. */
json_t *ninja_status_links(struct ninja_core *core, uint64_t first);

/* The same with all that is known of each, as SYMVIRT_STATUS_DETAILS says. */
json_t *ninja_status_details(struct ninja_core *core, uint64_t first);

/* Only {"fabrics": [...]} (new reference). The gate is held. */
json_t *ninja_status_fabrics(struct ninja_core *core);

#endif
