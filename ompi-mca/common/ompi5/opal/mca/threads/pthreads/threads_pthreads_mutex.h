/*
 * Stands in for a header of Open MPI 5.0 that Debian 13 leaves out of libopenmpi-dev: mutexes and
 * condition variables of OPAL, which are those of pthreads there.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_OMPI5_THREADS_PTHREADS_MUTEX_H
#define NINJA_OMPI5_THREADS_PTHREADS_MUTEX_H

#include "opal_config.h"

#include "opal/class/opal_object.h"
#include "opal/constants.h"

#include <pthread.h>

/* They are parts of OPAL's structures, so their types must be the ones of Open MPI itself. */
typedef pthread_mutex_t opal_thread_internal_mutex_t;
typedef pthread_cond_t opal_thread_internal_cond_t;

#define OPAL_THREAD_INTERNAL_MUTEX_INITIALIZER PTHREAD_MUTEX_INITIALIZER
#define OPAL_THREAD_INTERNAL_COND_INITIALIZER  PTHREAD_COND_INITIALIZER

static inline int opal_thread_internal_mutex_init(pthread_mutex_t *mutex, bool recursive)
{
    pthread_mutexattr_t attributes;
    int rc = pthread_mutexattr_init(&attributes);

    if (rc != 0)
        return OPAL_ERR_IN_ERRNO;
    if (recursive)
        rc = pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    if (rc == 0)
        rc = pthread_mutex_init(mutex, &attributes);
    (void)pthread_mutexattr_destroy(&attributes);
    return rc == 0 ? OPAL_SUCCESS : OPAL_ERR_IN_ERRNO;
}

static inline void opal_thread_internal_mutex_lock(pthread_mutex_t *mutex)
{
    (void)pthread_mutex_lock(mutex);
}

static inline int opal_thread_internal_mutex_trylock(pthread_mutex_t *mutex)
{
    return pthread_mutex_trylock(mutex) == 0 ? 0 : 1;
}

static inline void opal_thread_internal_mutex_unlock(pthread_mutex_t *mutex)
{
    (void)pthread_mutex_unlock(mutex);
}

static inline void opal_thread_internal_mutex_destroy(pthread_mutex_t *mutex)
{
    (void)pthread_mutex_destroy(mutex);
}

static inline int opal_thread_internal_cond_init(pthread_cond_t *condition)
{
    return pthread_cond_init(condition, NULL) == 0 ? OPAL_SUCCESS : OPAL_ERR_IN_ERRNO;
}

static inline void opal_thread_internal_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    (void)pthread_cond_wait(condition, mutex);
}

static inline void opal_thread_internal_cond_signal(pthread_cond_t *condition)
{
    (void)pthread_cond_signal(condition);
}

static inline void opal_thread_internal_cond_broadcast(pthread_cond_t *condition)
{
    (void)pthread_cond_broadcast(condition);
}

static inline void opal_thread_internal_cond_destroy(pthread_cond_t *condition)
{
    (void)pthread_cond_destroy(condition);
}

#endif
