/* From "move this there" to a plan. SPDX-License-Identifier: BSD-3-Clause */
#ifndef API_PLANNING_H
#define API_PLANNING_H

#include "coordinator.h"
#include "server.h"

/* Answers a request to migrate: finds hosts and HCAs, checks every move, and then starts the plan
 * or, if 'dry', only tells it. */
void planning_start(struct coordinator *coordinator, struct client *client, const char *what,
                    const char *to, unsigned parallel, int dry);

#endif
