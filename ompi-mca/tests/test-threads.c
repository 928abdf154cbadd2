/*
 * Several application threads: callbacks run without the core's lock, because the upper layer holds
 * locks of its own when it calls.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "rig.h"

#include <time.h>
#include <unistd.h>

static pthread_mutex_t upper = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool upper_held;
static unsigned met;

/* As Open MPI does: calls the core with a lock held that callbacks want too. */
static void *caller(void *unused)
{
    pthread_mutex_lock(&upper);
    atomic_store(&upper_held, true);
    usleep(50000);
    ninja_core_frame_free(rig->core, ninja_core_frame_new(rig->core, 8));
    pthread_mutex_unlock(&upper);
    return NULL;
}

static void take_upper_lock(void)
{
    struct timespec limit;
    pthread_t thread;

    atomic_store(&upper_held, false);
    pthread_create(&thread, NULL, caller, NULL);
    while (!atomic_load(&upper_held))
        usleep(1000);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 5;
    if (pthread_mutex_timedlock(&upper, &limit) == 0) {
        met++;
        pthread_mutex_unlock(&upper);
    } else {
        fail_msg("each of two threads waits for the lock of the other");
    }
    pthread_join(thread, NULL);
}

static void receive(struct ninja_link *link, uint8_t tag, const void *payload, size_t size)
{
    take_upper_lock();
}

static void complete(void *context, int status)
{
    take_upper_lock();
}

static int progress(struct ninja_transport *transport)
{
    static bool arrived;

    if (!arrived)
        rig_arrive(&rig->link->lifeline_path, 1);
    arrived = true;
    return 0;
}

static void callbacks_may_take_locks_of_the_upper_layer(void **state)
{
    struct ninja_transport_ops arriving = *rig->lifeline.base.ops;

    arriving.progress = progress;
    rig->lifeline.base.ops = &arriving;
    rig->core->gate.threads = true;
    rig->core->callbacks.receive = receive;
    (void)ninja_core_progress(rig->core);
    assert_int_equal(met, 1);
    (void)ninja_core_complete(rig->core, complete, NULL, 0);
    (void)ninja_core_progress(rig->core);
    assert_int_equal(met, 2);
    rig->core->gate.threads = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(callbacks_may_take_locks_of_the_upper_layer, rig_setup,
                                        rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
