/*
 * The control thread of a rank: hears release, resume and status, keeps deadlines, and progresses
 * while the application is outside MPI.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_CONTROL_H
#define NINJA_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "transport.h"

struct ninja_core;
struct symvirt_client;

/* Prepares core->control, without a thread. Returns 0 or a negative errno. */
int ninja_control_create(struct ninja_core *core);

/* Starts the thread: control socket, agent, fabrics. Returns 0, or a negative errno with a sentence
 * in `why`. */
int ninja_control_start(struct ninja_core *core, char *why, size_t why_size);

/* Ends and joins the thread, if it runs. */
void ninja_control_stop(struct ninja_core *core);

/* Frees core->control; the thread must have been stopped. */
void ninja_control_destroy(struct ninja_core *core);

/* By which the agent and controllers are answered; NULL before the start and after the end. */
struct symvirt_client *ninja_control_client(struct ninja_core *core);

/* The control thread's way into the core and out of it: takes the gate, and has what arrives
 * queued. */
void ninja_control_enter(struct ninja_core *core);
void ninja_control_leave(struct ninja_core *core);

/* Answers an operation that came by a callback; `error` is 0 or a positive errno. Control thread
 * only. */
void ninja_control_answer(struct ninja_core *core, uint64_t operation, int error,
                          const char *message);

/* Has the control thread send in a moment what links have gathered, or no longer. The gate is held.
 */
void ninja_control_plan_flush(struct ninja_core *core, bool on);

/* How long events are left to the application, in milliseconds, where a look whether it is still
 * there costs the control thread `look_ns` of processor time. */
unsigned ninja_control_patience(uint64_t look_ns);

/* Watches `transport` for events while the application is outside MPI, or no longer. The gate is
 * held. */
void ninja_control_watch(struct ninja_core *core, struct ninja_transport *transport, bool on);

#endif
