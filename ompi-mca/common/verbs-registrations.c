/*
 * The verbs transport's registrations of the application's memory: kept after a message for the
 * next one, until the memory is unmapped or others need the room.
 *
 * A registration costs a system call and a visit to each page, and as much again at its end: in an
 * emulated guest a sixth of the time of a message of 1 MiB.
 *
 * The kept ones do not overlap and are sorted by address. One that is taken out while a message
 * uses it ends with that message.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core.h"
#include "released.h"
#include "transport-verbs.h"

/* One of so many calls looks whether unmapping is still told. */
#define CALLS_FOR_A_LOOK 64U

/* A merged one is at most so many times as long as what it is needed for: pieces of a long message
 * would otherwise grow into each other, each with all those before it. */
#define MERGED_TIMES 3U

static size_t size_of(const struct verbs_registration *registration)
{
    return registration->end - registration->start;
}

/* A device that is going can take seconds for this: it is put off then, to the transport's end at
 * the latest, for which no link waits. */
static void end(struct verbs_transport *transport, struct verbs_registration *registration)
{
    if (verbs_device_may_be_going(transport)) {
        registration->next_put_off = transport->registrations.put_off;
        transport->registrations.put_off = registration;
        return;
    }
    (void)ibv_dereg_mr(registration->region);
    free(registration);
}

static void end_put_off(struct verbs_registrations *all)
{
    struct verbs_registration *registration;

    while ((registration = all->put_off) != NULL) {
        all->put_off = registration->next_put_off;
        (void)ibv_dereg_mr(registration->region);
        free(registration);
    }
}

/* --- The kept ones --------------------------------------------------------------------------- */

/* The index of the first kept one that ends behind `address`. */
static unsigned find(const struct verbs_registrations *all, uintptr_t address)
{
    unsigned low = 0, high = all->count;

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (all->kept[middle]->end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void take_out(struct verbs_transport *transport, unsigned index)
{
    struct verbs_registrations *all = &transport->registrations;
    struct verbs_registration *registration = all->kept[index];

    all->count--;
    all->bytes -= size_of(registration);
    memmove(all->kept + index, all->kept + index + 1,
            (all->count - index) * sizeof(struct verbs_registration *));
    registration->kept = false;
    if (registration->uses == 0)
        end(transport, registration);
}

/* Takes out all that touch the bytes from `start` to `stop`. */
static void take_out_range(struct verbs_transport *transport, uintptr_t start, uintptr_t stop)
{
    const struct verbs_registrations *all = &transport->registrations;
    unsigned index = find(all, start);

    while (index < all->count && all->kept[index]->start < stop)
        take_out(transport, index);
}

/* Takes out what has not been used for longest, of those that nobody uses. Returns false if there
 * are none. */
static bool take_out_oldest(struct verbs_transport *transport)
{
    const struct verbs_registrations *all = &transport->registrations;
    unsigned oldest = all->count;

    for (unsigned i = 0; i < all->count; i++)
        if (all->kept[i]->uses == 0 &&
            (oldest == all->count || all->kept[i]->used_at < all->kept[oldest]->used_at))
            oldest = i;
    if (oldest == all->count)
        return false;
    take_out(transport, oldest);
    return true;
}

static void keep_none(struct verbs_transport *transport)
{
    take_out_range(transport, 0, UINTPTR_MAX);
    transport->registrations.limit = 0;
    ninja_log(transport->base.core, 1,
              "%s: memory is registered for each message anew: nobody tells any more when it is "
              "unmapped",
              transport->device_name);
}

/* Keeps `registration`, which overlaps no other, if there is or can be room. */
static void keep(struct verbs_transport *transport, struct verbs_registration *registration)
{
    struct verbs_registrations *all = &transport->registrations;
    unsigned index;

    if (size_of(registration) > all->limit)
        return;
    if (!ninja_released_works()) {
        keep_none(transport);
        return;
    }
    while (all->bytes + size_of(registration) > all->limit || all->count == VERBS_KEPT_MAX)
        if (!take_out_oldest(transport))
            return;
    index = find(all, registration->start);
    memmove(all->kept + index + 1, all->kept + index,
            (all->count - index) * sizeof(struct verbs_registration *));
    all->kept[index] = registration;
    all->count++;
    all->bytes += size_of(registration);
    registration->kept = true;
}

/* --- Registering ----------------------------------------------------------------------------- */

/* The device may always read the memory, and write it if the process may. Returns NULL if it
 * cannot be registered, with errno. */
static struct ibv_mr *make_region(struct verbs_transport *transport, uintptr_t start,
                                  uintptr_t stop, enum verbs_use use, bool *writable)
{
    struct ibv_mr *region = ibv_reg_mr(transport->domain, (void *)start, stop - start,
                                       IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ);

    *writable = region != NULL;
    if (region == NULL && use == VERBS_TO_BE_READ)
        region = ibv_reg_mr(transport->domain, (void *)start, stop - start, IBV_ACCESS_REMOTE_READ);
    return region;
}

static struct verbs_registration *make(struct verbs_transport *transport, uintptr_t start,
                                       uintptr_t stop, enum verbs_use use)
{
    struct verbs_registration *registration = calloc(1, sizeof(*registration));

    if (registration == NULL)
        return NULL;
    registration->start = start;
    registration->end = stop;
    registration->region = make_region(transport, start, stop, use, &registration->writable);
    if (registration->region != NULL)
        return registration;
    free(registration);
    return NULL;
}

/*
 * Registers the memory from `start` to `stop`, if it is not much more together with the kept pieces
 * that overlap it, which are taken out: messages from overlapping places would otherwise drive each
 * other out for ever.
 */
static struct verbs_registration *make_merged(struct verbs_transport *transport, uintptr_t start,
                                              uintptr_t stop, enum verbs_use use)
{
    const struct verbs_registrations *all = &transport->registrations;
    uintptr_t low = start, high = stop;
    struct verbs_registration *registration;

    for (unsigned i = find(all, start); i < all->count && all->kept[i]->start < stop; i++) {
        low = all->kept[i]->start < low ? all->kept[i]->start : low;
        high = all->kept[i]->end > high ? all->kept[i]->end : high;
    }
    take_out_range(transport, start, stop);
    if (high - low > all->limit || high - low > MERGED_TIMES * (stop - start)) {
        low = start;
        high = stop;
    }
    registration = make(transport, low, high, use);
    if (registration == NULL && high - low > stop - start)
        registration = make(transport, start, stop, use);
    /* The memory that may be locked is limited. */
    while (registration == NULL && errno == ENOMEM && take_out_oldest(transport))
        registration = make(transport, start, stop, use);
    return registration;
}

static bool serves(const struct verbs_registration *registration, uintptr_t start, uintptr_t stop,
                   enum verbs_use use)
{
    return registration->start <= start && registration->end >= stop &&
           (registration->writable || use == VERBS_TO_BE_READ);
}

struct verbs_registration *verbs_register(struct verbs_transport *transport, const void *at,
                                          size_t length, enum verbs_use use)
{
    struct verbs_registrations *all = &transport->registrations;
    uintptr_t start = (uintptr_t)at, stop = start + length;
    struct verbs_registration *registration;
    unsigned index;

    ninja_core_forget_released(transport->base.core);
    if (!verbs_device_may_be_going(transport))
        end_put_off(all);
    if (all->count > 0 && all->clock % CALLS_FOR_A_LOOK == 0 && !ninja_released_works())
        keep_none(transport);
    index = find(all, start);
    if (index < all->count && serves(all->kept[index], start, stop, use)) {
        registration = all->kept[index];
    } else {
        registration = make_merged(transport, start, stop, use);
        if (registration == NULL)
            return NULL;
        keep(transport, registration);
    }
    registration->uses++;
    registration->used_at = ++all->clock;
    return registration;
}

void verbs_unregister(struct verbs_transport *transport, struct verbs_registration *registration)
{
    if (--registration->uses == 0 && !registration->kept)
        end(transport, registration);
}

/* --- All together ---------------------------------------------------------------------------- */

void verbs_registrations_forget(struct ninja_transport *transport, uintptr_t start, uintptr_t stop)
{
    take_out_range((struct verbs_transport *)transport, start, stop);
}

int verbs_registrations_create(struct verbs_transport *transport)
{
    struct verbs_registrations *all = &transport->registrations;
    struct rlimit locked;

    all->limit = transport->base.core->config.registration_limit;
    /* Half of what may be locked is left for what cannot be given up. */
    if (getrlimit(RLIMIT_MEMLOCK, &locked) == 0 && locked.rlim_cur != RLIM_INFINITY &&
        all->limit > locked.rlim_cur / 2)
        all->limit = locked.rlim_cur / 2;
    all->kept = calloc(VERBS_KEPT_MAX, sizeof(struct verbs_registration *));
    return all->kept != NULL ? 0 : -ENOMEM;
}

void verbs_registrations_destroy(struct verbs_transport *transport)
{
    take_out_range(transport, 0, UINTPTR_MAX);
    end_put_off(&transport->registrations);
    free(transport->registrations.kept);
}
