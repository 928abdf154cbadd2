/*
 * The gate: the lock of the core, cheap for the thread that uses it a million times a second.
 *
 * One application thread (or several, one after the other, when `threads` was asked for) and one
 * control thread share the core. The application's way in is a plain store and a load; the control
 * thread, which comes seldom, makes them visible with membarrier(2) and sleeps until the
 * application is out. Where that is not to be had (a kernel before 4.14, a container that forbids
 * it), the application has a fence there, on its way in and out, some 5 ns each. The application
 * may enter again while it is inside (callbacks do).
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_GATE_H
#define NINJA_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct ninja_gate {
    atomic_uint inside;      /* depth of the application thread inside; written by it only */
    atomic_uint wanted;      /* the control thread has or wants the gate */
    bool fence;              /* there is no membarrier(2) */
    bool threads;            /* several application threads: they share `mutex` */
    pthread_mutex_t mutex;   /* recursive; application threads among themselves */
    pthread_mutex_t control; /* held by the control thread while it is inside */
};

/* Prepares `gate` for one application thread or for several `threads`. */
void ninja_gate_init(struct ninja_gate *gate, bool threads);
void ninja_gate_destroy(struct ninja_gate *gate);

/* The control thread's way in and out; waits at most for one pass of the application. */
void ninja_gate_take(struct ninja_gate *gate);
void ninja_gate_give(struct ninja_gate *gate);

/* The slow half of ninja_gate_enter(): the control thread is inside or about to be. */
void ninja_gate_wait(struct ninja_gate *gate);

/* The slow half of ninja_gate_leave(): the control thread may sleep until we are out. */
void ninja_gate_wake(struct ninja_gate *gate);

/* Between the store of `inside` and the load of `wanted`. Their order on the processor is the
 * business of membarrier(2), where there is one. */
static inline void ninja_gate_order(const struct ninja_gate *gate)
{
    if (gate->fence)
        atomic_thread_fence(memory_order_seq_cst);
    else
        atomic_signal_fence(memory_order_seq_cst);
}

/* An application thread's way in. */
static inline void ninja_gate_enter(struct ninja_gate *gate)
{
    if (gate->threads)
        pthread_mutex_lock(&gate->mutex);
    unsigned depth = atomic_load_explicit(&gate->inside, memory_order_relaxed);

    atomic_store_explicit(&gate->inside, depth + 1, memory_order_relaxed);
    ninja_gate_order(gate);
    if (depth == 0 && atomic_load_explicit(&gate->wanted, memory_order_acquire) != 0)
        ninja_gate_wait(gate);
}

/* An application thread's way out. */
static inline void ninja_gate_leave(struct ninja_gate *gate)
{
    unsigned depth = atomic_load_explicit(&gate->inside, memory_order_relaxed);

    atomic_store_explicit(&gate->inside, depth - 1, memory_order_release);
    ninja_gate_order(gate);
    if (depth == 1 && atomic_load_explicit(&gate->wanted, memory_order_relaxed) != 0)
        ninja_gate_wake(gate);
    if (gate->threads)
        pthread_mutex_unlock(&gate->mutex);
}

#endif
