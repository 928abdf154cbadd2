/*
 * What the agent and controllers ask of a rank, and the socket on which they ask.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_REQUESTS_H
#define NINJA_REQUESTS_H

#include <stddef.h>

struct ninja_core;
struct symvirt_client;

/*
 * Makes the rank's control socket in the configured directory and connects to the agent, if there
 * is one. *client is the caller's, to be dispatched by the control thread only. Returns 0, or a
 * negative errno with a sentence in `why`.
 */
int ninja_requests_open(struct ninja_core *core, struct symvirt_client **client, char *why,
                        size_t why_size);

#endif
