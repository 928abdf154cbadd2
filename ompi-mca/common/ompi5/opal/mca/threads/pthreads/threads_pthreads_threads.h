/*
 * Stands in for a header of Open MPI 5.0 that Debian 13 leaves out of libopenmpi-dev: how a thread
 * that finds nothing to do lets others run.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_OMPI5_THREADS_PTHREADS_THREADS_H
#define NINJA_OMPI5_THREADS_PTHREADS_THREADS_H

#include "opal/mca/threads/threads.h"

#include <pthread.h>
#include <sched.h>

static inline void opal_thread_yield(void)
{
    (void)sched_yield();
}

#endif
