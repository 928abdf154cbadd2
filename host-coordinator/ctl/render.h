/* How ninjactl shows things to humans. SPDX-License-Identifier: BSD-3-Clause */
#ifndef NINJACTL_RENDER_H
#define NINJACTL_RENDER_H

#include <jansson.h>

/* Hosts and VMs. */
void render_status(const json_t *status);

/* What a plan would do or does. */
void render_plan(const json_t *plan);

/* A line for a change of state or for progress; on a terminal progress is a bar in one line. */
void render_event(const json_t *event);

/* The finished moves of a plan, with their phases. 'plan' 0: all. */
void render_moves(const json_t *moves, json_int_t plan);

/* What a move went through. */
void render_explanation(const json_t *move);

/* Ranks of VMs and what their links use. */
void render_ranks(const json_t *message);

/* Ends a progress bar's line, if one is open. */
void render_end(void);

#endif
