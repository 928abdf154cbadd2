/*
 * The verbs transport's reaper: the thread that ends queue pairs, because the kernel may be slow.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <signal.h>
#include <unistd.h>

#include "core.h"
#include "transport-verbs.h"

static void reap(struct verbs_path *vp)
{
    if (vp->stopped) {
        verbs_queue_destroy(vp);
    } else {
        verbs_queue_stop(vp);
        vp->stopped = true;
    }
}

static void hand_back(struct verbs_path *vp)
{
    struct verbs_transport *transport = vp->transport;
    uint64_t one = 1;

    vp->next_task = atomic_load(&transport->reaper.done);
    while (!atomic_compare_exchange_weak(&transport->reaper.done, &vp->next_task, vp))
        ;
    (void)!write(transport->kick_fd, &one, sizeof(one));
}

static void *run(void *argument)
{
    struct verbs_reaper *reaper = argument;

    pthread_mutex_lock(&reaper->lock);
    while (!reaper->end) {
        struct verbs_path *vp = reaper->waiting;

        if (vp == NULL) {
            pthread_cond_wait(&reaper->changed, &reaper->lock);
            continue;
        }
        reaper->waiting = vp->next_task;
        pthread_mutex_unlock(&reaper->lock);
        reap(vp);
        hand_back(vp);
        pthread_mutex_lock(&reaper->lock);
    }
    pthread_mutex_unlock(&reaper->lock);
    return NULL;
}

/* Begins the thread; signals are the application's. */
static bool begin(struct verbs_reaper *reaper)
{
    sigset_t all, old;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&reaper->thread, NULL, run, reaper);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return false;
    (void)pthread_setname_np(reaper->thread, "ninja-reaper");
    reaper->runs = true;
    return true;
}

void verbs_reaper_take(struct verbs_path *vp)
{
    struct verbs_reaper *reaper = &vp->transport->reaper;

    if (!reaper->runs && !begin(reaper)) {
        reap(vp);
        hand_back(vp);
        return;
    }
    pthread_mutex_lock(&reaper->lock);
    vp->next_task = reaper->waiting;
    reaper->waiting = vp;
    pthread_cond_signal(&reaper->changed);
    pthread_mutex_unlock(&reaper->lock);
}

void verbs_reaper_init(struct verbs_reaper *reaper)
{
    pthread_mutex_init(&reaper->lock, NULL);
    pthread_cond_init(&reaper->changed, NULL);
}

void verbs_reaper_destroy(struct verbs_reaper *reaper)
{
    if (reaper->runs) {
        pthread_mutex_lock(&reaper->lock);
        reaper->end = true;
        pthread_cond_signal(&reaper->changed);
        pthread_mutex_unlock(&reaper->lock);
        pthread_join(reaper->thread, NULL);
    }
    pthread_cond_destroy(&reaper->changed);
    pthread_mutex_destroy(&reaper->lock);
}
