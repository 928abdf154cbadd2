/*
 * The gate: the slow halves, membarrier(2) and the wait for each other.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "gate.h"

#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool membarrier(int command)
{
    return syscall(SYS_membarrier, command, 0, 0) == 0;
}

void ninja_gate_init(struct ninja_gate *gate, bool threads)
{
    pthread_mutexattr_t attributes;

    atomic_init(&gate->inside, 0);
    atomic_init(&gate->wanted, 0);
    gate->fence = !membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
    gate->threads = threads;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&gate->mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    pthread_mutex_init(&gate->control, NULL);
}

void ninja_gate_destroy(struct ninja_gate *gate)
{
    pthread_mutex_destroy(&gate->mutex);
    pthread_mutex_destroy(&gate->control);
}

/* After this, either the application sees `wanted`, or we see that it is inside. */
static void order(const struct ninja_gate *gate)
{
    if (gate->fence)
        atomic_thread_fence(memory_order_seq_cst);
    else if (!membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED))
        usleep(1000); /* short of memory, or forbidden since: no processor keeps a store back so
                         long */
}

void ninja_gate_take(struct ninja_gate *gate)
{
    unsigned inside;

    pthread_mutex_lock(&gate->control);
    atomic_store_explicit(&gate->wanted, 1, memory_order_seq_cst);
    order(gate);
    /*
     * It leaves after one pass, and then sees `wanted`. On a single processor it can only do so
     * while we sleep, and each look before that would take the processor from it.
     */
    while ((inside = atomic_load_explicit(&gate->inside, memory_order_acquire)) != 0)
        syscall(SYS_futex, &gate->inside, FUTEX_WAIT_PRIVATE, inside, NULL, NULL, 0);
}

void ninja_gate_wake(struct ninja_gate *gate)
{
    syscall(SYS_futex, &gate->inside, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void ninja_gate_give(struct ninja_gate *gate)
{
    atomic_store_explicit(&gate->wanted, 0, memory_order_release);
    pthread_mutex_unlock(&gate->control);
}

void ninja_gate_wait(struct ninja_gate *gate)
{
    /* Step out so that the control thread gets in, and wait for its end on its mutex. */
    atomic_store_explicit(&gate->inside, 0, memory_order_release);
    ninja_gate_wake(gate);
    for (;;) {
        pthread_mutex_lock(&gate->control);
        pthread_mutex_unlock(&gate->control);
        atomic_store_explicit(&gate->inside, 1, memory_order_seq_cst);
        if (atomic_load_explicit(&gate->wanted, memory_order_seq_cst) == 0)
            return;
        atomic_store_explicit(&gate->inside, 0, memory_order_release);
        ninja_gate_wake(gate);
    }
}
