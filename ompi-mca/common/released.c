/*
 * Memory that the process gives back to the kernel: a set of ranges with any number of writers and
 * one reader, none of which waits.
 *
 * There is one for the process, as there is one memory: a hook may still be under way in some
 * thread when the core is gone.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "released.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <ucm/api/ucm.h>

/* More between two looks is taken as everything. */
#define RANGES 64U

/* A range is one word, so that it is written at once: its first page, and how many there are. */
#define PAGE_BITS  12
#define COUNT_BITS 20
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)

static _Atomic uint64_t ranges[RANGES]; /* 0: free */
static atomic_uint notes;               /* so many were made: where to look for a free one */
static atomic_bool any, everything;

void ninja_released_note_all(void)
{
    atomic_store(&everything, true);
    atomic_store(&any, true);
}

void ninja_released_note(const void *start, size_t length)
{
    uint64_t first = (uintptr_t)start >> PAGE_BITS;
    uint64_t count = (((uintptr_t)start + length - 1) >> PAGE_BITS) - first + 1;
    unsigned begin = atomic_fetch_add(&notes, 1);

    if (length == 0)
        return;
    for (unsigned i = 0; i < RANGES && count <= COUNT_MASK && first >> (64 - COUNT_BITS) == 0;
         i++) {
        uint64_t none = 0;

        if (atomic_compare_exchange_strong(&ranges[(begin + i) % RANGES], &none,
                                           first << COUNT_BITS | count)) {
            atomic_store(&any, true);
            return;
        }
    }
    ninja_released_note_all();
}

static void on_unmapped(ucm_event_type_t type, ucm_event_t *event, void *argument)
{
    ninja_released_note(event->vm_unmapped.address, event->vm_unmapped.size);
}

int ninja_released_begin(void)
{
    if (ucm_set_event_handler(UCM_EVENT_VM_UNMAPPED, 0, on_unmapped, NULL) != UCS_OK)
        return -ENOTSUP;
    return 0;
}

void ninja_released_end(void)
{
    ucm_unset_event_handler(UCM_EVENT_VM_UNMAPPED, on_unmapped, NULL);
}

bool ninja_released_works(void)
{
    unsigned before = atomic_load(&notes);
    void *page = mmap(NULL, 1 << PAGE_BITS, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return page != MAP_FAILED && munmap(page, 1 << PAGE_BITS) == 0 && atomic_load(&notes) != before;
}

void ninja_released_take(void (*forget)(void *context, uintptr_t start, uintptr_t end),
                         void *context)
{
    if (!atomic_load(&any))
        return;
    /* What is noted from here on is about memory that is still mapped: it can wait. */
    atomic_store(&any, false);
    if (atomic_exchange(&everything, false))
        forget(context, 0, UINTPTR_MAX);
    for (unsigned i = 0; i < RANGES; i++) {
        uint64_t range = atomic_exchange(&ranges[i], 0);
        uintptr_t start = range >> COUNT_BITS << PAGE_BITS;

        if (range != 0)
            forget(context, start, start + ((range & COUNT_MASK) << PAGE_BITS));
    }
}

/* The child gets copies of pages, and with older kernels it may be the parent that gets the copy.
 */
__attribute__((constructor)) static void watch_forks(void)
{
    (void)pthread_atfork(NULL, ninja_released_note_all, NULL);
}
