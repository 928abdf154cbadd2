/* Event loop, timers and the pool of threads for blocking calls.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <libvirt/libvirt.h>

#include "log.h"
#include "loop.h"

/* More calls than that block at once only when something is wrong; then they queue. */
#define POOL_THREADS_MAX 48

struct job {
    struct job *next;
    void (*run)(void *arg);
    void (*done)(void *arg);
    void *arg;
};

struct job_list {
    struct job *first, **end;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct job_list queued, ended;
    unsigned threads, idle, waiting;
    int wake_fd;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};

static void list_append(struct job_list *list, struct job *job)
{
    job->next = NULL;
    if (!list->first)
        list->end = &list->first;
    *list->end = job;
    list->end = &job->next;
}

static void *pool_thread(void *unused)
{
    uint64_t one = 1;

    pthread_mutex_lock(&pool.lock);
    for (;;) {
        struct job *job;

        while (!pool.queued.first) {
            pool.idle++;
            pthread_cond_wait(&pool.work, &pool.lock);
            pool.idle--;
        }
        job = pool.queued.first;
        pool.queued.first = job->next;
        pool.waiting--;
        pthread_mutex_unlock(&pool.lock);
        job->run(job->arg);
        pthread_mutex_lock(&pool.lock);
        list_append(&pool.ended, job);
        if (write(pool.wake_fd, &one, sizeof(one)) != sizeof(one))
            log_line("pool: cannot wake the loop");
    }
    return NULL;
}

static void pool_on_wake(int watch, int fd, int events, void *unused)
{
    uint64_t count;
    struct job *job;

    if (read(fd, &count, sizeof(count)) != sizeof(count))
        return;
    pthread_mutex_lock(&pool.lock);
    while ((job = pool.ended.first)) {
        pool.ended.first = job->next;
        pthread_mutex_unlock(&pool.lock);
        job->done(job->arg);
        free(job);
        pthread_mutex_lock(&pool.lock);
    }
    pthread_mutex_unlock(&pool.lock);
}

int loop_start(void)
{
    if (virEventRegisterDefaultImpl() < 0)
        return -EIO;
    pool.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (pool.wake_fd < 0)
        return -errno;
    return virEventAddHandle(pool.wake_fd, VIR_EVENT_HANDLE_READABLE, pool_on_wake, NULL, NULL) < 0
               ? -EIO
               : 0;
}

int loop_turn(void)
{
    return virEventRunDefaultImpl() < 0 ? -EIO : 0;
}

int loop_submit(void (*run)(void *arg), void (*done)(void *arg), void *arg)
{
    struct job *job = calloc(1, sizeof(*job));
    pthread_t thread;
    int rc = 0;

    if (!job)
        return -ENOMEM;
    job->run = run;
    job->done = done;
    job->arg = arg;
    pthread_mutex_lock(&pool.lock);
    list_append(&pool.queued, job);
    pool.waiting++;
    if (pool.waiting > pool.idle && pool.threads < POOL_THREADS_MAX) {
        rc = -pthread_create(&thread, NULL, pool_thread, NULL);
        if (!rc) {
            pthread_detach(thread);
            pool.threads++;
        }
    }
    pthread_cond_signal(&pool.work);
    pthread_mutex_unlock(&pool.lock);
    if (rc && !pool.threads)
        log_line("pool: cannot start a thread");
    return 0;
}

static void timer_on_fire(int id, void *opaque)
{
    struct loop_timer *timer = opaque;

    loop_timer_stop(timer);
    timer->fire(timer->arg);
}

void loop_timer_start(struct loop_timer *timer, int ms, void (*fire)(void *arg), void *arg)
{
    loop_timer_stop(timer);
    timer->fire = fire;
    timer->arg = arg;
    timer->id = virEventAddTimeout(ms, timer_on_fire, timer, NULL) + 1;
    if (timer->id <= 0)
        log_line("loop: cannot add a timer");
}

void loop_timer_stop(struct loop_timer *timer)
{
    if (timer->id > 0)
        virEventRemoveTimeout(timer->id - 1);
    timer->id = 0;
}

double loop_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int64_t loop_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}
