/*
 * The control thread: one loop over the agent, the control socket, deadlines, and the transports
 * while the application does not look after them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "control.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <symvirt.h>

#include "core.h"
#include "lifeline.h"
#include "moved.h"
#include "requests.h"

/* The application is given so long to look after an event itself; longer where our looks would cost
 * it more than one part in so many of its processor. */
#define PATIENCE_MS     20
#define PATIENCE_MS_MAX 100
#define LOOK_SHARE      100
/* No look is taken to cost more. */
#define LOOK_NS_MAX 2000000
/* How often to look whether the application still progresses, while a fabric is in use. */
#define LOOK_MS 100
/* Gathered frames wait so long for the application's next pass, or for the time of so many writes:
 * on a slow machine a pass takes longer too. */
#define FLUSH_NS     50000
#define FLUSH_WRITES 8
/* Passes in one go, so that the application is not kept out for long. */
#define PASSES_MAX 64

struct ninja_control {
    struct ninja_core *core;
    pthread_t thread;
    bool running;
    atomic_bool stop;
    int epoll_fd;
    int wake_fd;
    int moved_fd;      /* tells that this machine was moved; negative: it cannot be known */
    int flush_fd;      /* timer: what links have gathered must leave */
    int transports_fd; /* an epoll instance over the event_fd of every transport */
    uint64_t rearm_at_ms;
    bool dry; /* events were there, but nothing could be taken: the inbox of a link is full */
    uint64_t idle_passes;  /* of the application, when we last looked whether it progresses */
    uint64_t armed_passes; /* of the application, when we last made a pass for it */
    uint64_t look_at_ms;   /* when to look again */
    uint64_t seen_passes;  /* of the application, when an event was last left to it */
    uint64_t round_at_ns;  /* processor time of this thread when the loop's present round began */
    uint64_t look_ns;      /* what a round costs in which we only look, on average */
    struct symvirt_client *client;
};

struct symvirt_client *ninja_control_client(struct ninja_core *core)
{
    return core->control->client;
}

void ninja_control_enter(struct ninja_core *core)
{
    ninja_gate_take(&core->gate);
    core->control_progress = true;
}

void ninja_control_leave(struct ninja_core *core)
{
    core->control_progress = false;
    ninja_gate_give(&core->gate);
}

void ninja_core_wake_control(struct ninja_core *core)
{
    const uint64_t one = 1;

    (void)!write(core->control->wake_fd, &one, sizeof(one));
}

void ninja_control_plan_flush(struct ninja_core *core, bool on)
{
    uint64_t writes_ns = FLUSH_WRITES * core->write_ns;
    uint64_t wait_ns = writes_ns > FLUSH_NS ? writes_ns : FLUSH_NS;
    struct itimerspec when = {.it_value = {0}};

    if (on)
        when.it_value =
            (struct timespec){(time_t)(wait_ns / 1000000000), (long)(wait_ns % 1000000000)};
    core->flush_planned = on;
    (void)timerfd_settime(core->control->flush_fd, 0, &when, NULL);
}

static void watch(struct ninja_control *control, struct ninja_transport *transport, bool on)
{
    struct epoll_event event = {.events = EPOLLIN};

    if (transport->event_fd >= 0)
        (void)epoll_ctl(control->transports_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL,
                        transport->event_fd, &event);
}

void ninja_control_watch(struct ninja_core *core, struct ninja_transport *transport, bool on)
{
    /* Otherwise it joins the set with all others (arm_transports). */
    if (core->announced || !on)
        watch(core->control, transport, on);
}

/* --- The loop
 * -----------------------------------------------------------------------------------------------------
 */

/*
 * Begins or ends to wait for the events of transports. While the application polls, their
 * descriptors are in no set of ours: each frame would have to climb through the sets to wake
 * nobody. The gate is held.
 */
static void arm_transports(struct ninja_control *control, bool on)
{
    struct ninja_core *core = control->core;

    if (core->announced == on)
        return;
    core->announced = on;
    for (size_t i = 0; i < core->active_count; i++) {
        struct ninja_transport *transport = core->active[i];

        watch(control, transport, on);
        if (on && transport->ops->announce != NULL)
            transport->ops->announce(transport);
    }
}

/* Leaves the events to the application for a while. The gate is held. */
static void wait_for_application(struct ninja_control *control)
{
    control->seen_passes = atomic_load_explicit(&control->core->passes, memory_order_relaxed);
    control->rearm_at_ms = ninja_now_ms() + ninja_control_patience(control->look_ns);
    arm_transports(control, false);
}

/* A release runs: it should not depend on where the application is. */
static bool releasing(const struct ninja_core *core)
{
    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
        if (core->fabrics[i].state == NINJA_FABRIC_RELEASING)
            return true;
    return false;
}

/* Some transport has an event: it is the application's, unless that is not looking. */
static void handle_transports(struct ninja_control *control)
{
    struct ninja_core *core = control->core;
    uint64_t passes = atomic_load_explicit(&core->passes, memory_order_relaxed);
    int moved = 0;

    ninja_control_enter(core);
    if (passes != control->seen_passes && !releasing(core)) {
        core->lifeline_look = 0; /* the event may be the lifeline's */
        wait_for_application(control);
        ninja_control_leave(core);
        return;
    }
    core->inbox_full = false;
    for (unsigned i = 0; i < PASSES_MAX; i++) {
        int n = ninja_core_pass(core);

        moved += n;
        if (n == 0)
            break;
    }
    /* Readable, but nothing was to be taken: do not spin. */
    control->dry = moved == 0 && core->inbox_full;
    if (moved == 0)
        wait_for_application(control);
    ninja_control_leave(core);
}

/*
 * Waits for events again once the application has made no pass for a while, or a release runs.
 * Returns how long to leave them to it, in milliseconds; -1 if they are waited for. The gate is
 * held.
 */
static int watch_transports(struct ninja_control *control)
{
    uint64_t passes = atomic_load_explicit(&control->core->passes, memory_order_relaxed);
    uint64_t now = ninja_now_ms();
    unsigned patience = ninja_control_patience(control->look_ns);
    bool urgent = !control->dry && releasing(control->core);

    if (control->core->announced)
        return -1;
    /* A little early saves a look when we are here for another deadline. */
    if (now + patience / 4 < control->rearm_at_ms && !urgent)
        return (int)(control->rearm_at_ms - now);
    control->dry = false;
    if (passes == control->seen_passes || urgent) {
        arm_transports(control, true);
        /* Now deadlines count again that the next look would have seen to, and the pass is due that
         * makes transports announce events. */
        control->idle_passes = passes;
        control->look_at_ms = now;
        return 0;
    }
    /* An application may take long for the passes after which it would look at the lifeline. */
    control->core->lifeline_look = 0;
    control->seen_passes = passes;
    control->rearm_at_ms = now + patience;
    return (int)patience;
}

/*
 * A transport announces events only after a pass of ours that found nothing (verbs: announcing
 * costs the application dearly). So when the application stops to progress, passes are made
 * for it until one does. Returns milliseconds until this should be looked at again, -1 for not at
 * all.
 */
static int watch_application(struct ninja_control *control)
{
    struct ninja_core *core = control->core;
    uint64_t passes = atomic_load_explicit(&core->passes, memory_order_relaxed);
    uint64_t now = ninja_now_ms();

    /* What has not been announced yet is looked at by watch_transports(). */
    if (core->active_count < 2 || passes == control->armed_passes || !core->announced)
        return -1;
    if (now < control->look_at_ms)
        return (int)(control->look_at_ms - now);
    if (passes == control->idle_passes) {
        int moved;

        ninja_control_enter(core);
        moved = ninja_core_pass(core);
        ninja_control_leave(core);
        /* Only one that finds nothing makes transports announce events. */
        if (moved > 0)
            return 0;
        control->armed_passes = passes;
        return -1;
    }
    control->idle_passes = passes;
    control->look_at_ms = now + LOOK_MS;
    return LOOK_MS;
}

/* The application has sent a burst and left. */
static void flush(struct ninja_control *control)
{
    uint64_t value;

    if (read(control->flush_fd, &value, sizeof(value)) < 0)
        return; /* the application came back in time */
    ninja_control_enter(control->core);
    ninja_core_pump_links(control->core);
    ninja_control_leave(control->core);
}

static int shorter(int a, int b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

unsigned ninja_control_patience(uint64_t look_ns)
{
    uint64_t patience = look_ns * LOOK_SHARE / 1000000;

    if (patience < PATIENCE_MS)
        return PATIENCE_MS;
    return patience < PATIENCE_MS_MAX ? (unsigned)patience : PATIENCE_MS_MAX;
}

/* Time on a processor that this thread has had. */
static uint64_t processor_ns(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* Notes what the last round of the loop has cost; `only_looked`: no event was handled in it. It may
 * have done what was due all the same, so that what took very long tells nothing. */
static void note_look(struct ninja_control *control, bool only_looked)
{
    uint64_t now = processor_ns();
    uint64_t cost = now - control->round_at_ns;

    if (only_looked)
        control->look_ns = (7 * control->look_ns + (cost < LOOK_NS_MAX ? cost : LOOK_NS_MAX)) / 8;
    control->round_at_ns = now;
}

/* Deadlines; returns how long to wait for events, in milliseconds. */
static int keep_time(struct ninja_control *control)
{
    struct ninja_core *core = control->core;
    int timeout, look;

    ninja_control_enter(core);
    timeout = ninja_core_tick(core);
    look = watch_transports(control);
    /* We look soon anyway: nobody needs to wake us for what is sent until then. */
    if (look >= 0)
        core->control_sleeps = false;
    timeout = shorter(timeout, look);
    ninja_control_leave(core);
    timeout = shorter(timeout, watch_application(control));
    return shorter(timeout, symvirt_client_timeout_ms(control->client));
}

/* Network interfaces changed somehow. */
static void handle_moved(struct ninja_control *control)
{
    if (!ninja_moved_read(control->moved_fd))
        return;
    ninja_log(control->core, 2, "this machine announces itself: lifelines are connected anew");
    ninja_control_enter(control->core);
    ninja_lifeline_renew_all(control->core);
    ninja_control_leave(control->core);
}

static void open_fabrics(struct ninja_core *core)
{
    ninja_control_enter(core);
    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
        if (core->fabrics[i].used && core->fabrics[i].state == NINJA_FABRIC_DOWN)
            ninja_fabric_handle(&core->fabrics[i], NINJA_FABRIC_RESUME, 0);
    ninja_control_leave(core);
}

static void *run(void *argument)
{
    struct ninja_control *control = argument;

    open_fabrics(control->core);
    control->round_at_ns = processor_ns();
    while (!atomic_load(&control->stop)) {
        struct epoll_event events[4];
        int timeout = keep_time(control);
        int count = epoll_wait(control->epoll_fd, events, 4, timeout);
        bool transports = false, client = symvirt_client_timeout_ms(control->client) == 0;

        for (int i = 0; i < count; i++) {
            uint64_t value;

            if (events[i].data.fd == control->wake_fd)
                (void)!read(control->wake_fd, &value, sizeof(value));
            else if (events[i].data.fd == control->moved_fd)
                handle_moved(control);
            else if (events[i].data.fd == control->transports_fd)
                transports = true;
            else if (events[i].data.fd == control->flush_fd)
                flush(control);
            else
                client = true;
        }
        if (client)
            symvirt_client_dispatch(control->client);
        if (transports)
            handle_transports(control);
        note_look(control, count == 0 && !client);
    }
    return NULL;
}

/* --- Life
 * ---------------------------------------------------------------------------------------------------------
 */

int ninja_control_create(struct ninja_core *core)
{
    struct ninja_control *control = calloc(1, sizeof(*control));
    struct epoll_event event = {.events = EPOLLIN};
    int rc;

    if (control == NULL)
        return -ENOMEM;
    control->core = core;
    control->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    control->transports_fd = epoll_create1(EPOLL_CLOEXEC);
    control->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    control->moved_fd = ninja_moved_open();
    control->flush_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    core->control = control;
    if (control->epoll_fd < 0 || control->transports_fd < 0 || control->wake_fd < 0 ||
        control->flush_fd < 0)
        goto failed;
    event.data.fd = control->flush_fd;
    if (epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, control->flush_fd, &event) != 0)
        goto failed;
    event.data.fd = control->wake_fd;
    if (epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, control->wake_fd, &event) != 0)
        goto failed;
    event.data.fd = control->transports_fd;
    if (epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, control->transports_fd, &event) != 0)
        goto failed;
    core->announced = true;
    /* Without it a move is noticed later, by segments that nobody acknowledges. */
    event.data.fd = control->moved_fd;
    if (control->moved_fd >= 0 &&
        epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, control->moved_fd, &event) != 0)
        goto failed;
    return 0;

failed:
    rc = -errno;
    ninja_control_destroy(core);
    return rc;
}

int ninja_control_start(struct ninja_core *core, char *why, size_t why_size)
{
    struct ninja_control *control = core->control;
    struct epoll_event event = {.events = EPOLLIN};
    sigset_t all, old;
    int rc;

    if (control->running)
        return 0;
    rc = ninja_requests_open(core, &control->client, why, why_size);
    if (rc != 0)
        return rc;
    event.data.fd = symvirt_client_fd(control->client);
    if (epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, event.data.fd, &event) != 0) {
        rc = -errno;
        snprintf(why, why_size, "cannot watch the control socket: %s", strerror(-rc));
        goto close_client;
    }
    /* Signals are the application's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = -pthread_create(&control->thread, NULL, run, control);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        snprintf(why, why_size, "cannot start the control thread: %s", strerror(-rc));
        goto close_client;
    }
    pthread_setname_np(control->thread, "ninja-control");
    control->running = true;
    core->can_gather = true;
    return 0;

close_client:
    symvirt_client_destroy(control->client);
    control->client = NULL;
    return rc;
}

void ninja_control_stop(struct ninja_core *core)
{
    struct ninja_control *control = core->control;

    if (!control->running)
        return;
    core->can_gather = false;
    atomic_store(&control->stop, true);
    ninja_core_wake_control(core);
    pthread_join(control->thread, NULL);
    control->running = false;
    symvirt_client_destroy(control->client);
    control->client = NULL;
}

void ninja_control_destroy(struct ninja_core *core)
{
    struct ninja_control *control = core->control;

    if (control == NULL)
        return;
    symvirt_client_destroy(control->client);
    if (control->epoll_fd >= 0)
        close(control->epoll_fd);
    if (control->transports_fd >= 0)
        close(control->transports_fd);
    if (control->wake_fd >= 0)
        close(control->wake_fd);
    if (control->moved_fd >= 0)
        close(control->moved_fd);
    if (control->flush_fd >= 0)
        close(control->flush_fd);
    free(control);
    core->control = NULL;
}
