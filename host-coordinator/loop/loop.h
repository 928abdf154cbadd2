/* The daemon's one event loop: libvirt's default one, with one-shot timers and a pool of threads
 * for calls that block. SPDX-License-Identifier: BSD-3-Clause
 *
 * All state of the daemon belongs to the loop's thread. A job runs in a pool thread, touches only
 * what its argument holds, and its end is told on the loop's thread.
 */
#ifndef LOOP_H
#define LOOP_H

#include <stdint.h>

/* Starts libvirt's event loop and the pool. Returns 0 or a negative errno. */
int loop_start(void);

/* Runs one turn of the loop; blocks until something happens. Returns 0 or a negative errno. */
int loop_turn(void);

/* Submits a blocking call: 'run' is called in a pool thread, then 'done' on the loop's thread, both
 * with 'arg', which 'done' has to free. Returns 0 or a negative errno ('done' is not called then).
 * Loop's thread only. */
int loop_submit(void (*run)(void *arg), void (*done)(void *arg), void *arg);

/* A one-shot timer; all zero is a stopped one. */
struct loop_timer {
    int id; /* libvirt's number + 1; 0: stopped */
    void (*fire)(void *arg);
    void *arg;
};

/* (Re)starts 'timer': 'fire' is called with 'arg' once, after 'ms' milliseconds. */
void loop_timer_start(struct loop_timer *timer, int ms, void (*fire)(void *arg), void *arg);

/* Stops 'timer' if it runs. */
void loop_timer_stop(struct loop_timer *timer);

/* Seconds since 1970 by the host's clock: the one clock of logs, journal and reports. Any thread.
 */
double loop_now(void);

/* CLOCK_MONOTONIC in milliseconds, for sessions. Any thread. */
int64_t loop_now_ms(void);

#endif
