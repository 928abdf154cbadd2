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
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <ucm/api/ucm.h>

/* More between two looks is taken as everything. */
#define RANGES 64U

/* A range is one word, so that it is written at once: its first page, and how many there are. */
#define PAGE_BITS  12
#define PAGE       ((size_t)1 << PAGE_BITS)
#define COUNT_BITS 20
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)

static _Atomic uint64_t ranges[RANGES]; /* 0: free */
static atomic_uint notes;               /* so many were made: where to look for a free one */
static atomic_bool any, everything;

/* --- Noting ---------------------------------------------------------------------------------- */

void ninja_released_note_all(void)
{
    atomic_store(&everything, true);
    atomic_store(&any, true);
}

static bool put(unsigned begin, uint64_t range)
{
    for (unsigned i = 0; i < RANGES; i++) {
        uint64_t none = 0;

        if (atomic_compare_exchange_strong(&ranges[(begin + i) % RANGES], &none, range))
            return true;
    }
    return false;
}

void ninja_released_note(const void *start, size_t length)
{
    uint64_t first = (uintptr_t)start >> PAGE_BITS;
    uint64_t count = (((uintptr_t)start + length - 1) >> PAGE_BITS) - first + 1;
    unsigned turn = atomic_fetch_add(&notes, 1);

    if (length == 0)
        return;
    if (!atomic_load(&everything) && count <= COUNT_MASK && first >> (64 - COUNT_BITS) == 0 &&
        put(turn, first << COUNT_BITS | count))
        atomic_store(&any, true);
    else
        ninja_released_note_all();
}

/* --- Hooks ----------------------------------------------------------------------------------- */

#define EVENTS (UCM_EVENT_VM_UNMAPPED | UCM_EVENT_MREMAP | UCM_EVENT_MADVISE)

/* Advice that leaves contents and pages as they are. */
static bool is_harmless(int advice)
{
    switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_DONTFORK:
    case MADV_DOFORK:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
        return true;
    default:
        return false;
    }
}

static void on_event(ucm_event_type_t type, ucm_event_t *event, void *argument)
{
    if (type == UCM_EVENT_VM_UNMAPPED)
        ninja_released_note(event->vm_unmapped.address, event->vm_unmapped.size);
    else if (type == UCM_EVENT_MADVISE && !is_harmless(event->madvise.advice))
        ninja_released_note(event->madvise.addr, event->madvise.length);
    else if (type == UCM_EVENT_MREMAP && (event->mremap.flags & MREMAP_FIXED) != 0)
        ninja_released_note_all(); /* it is not told what lies where the memory goes */
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned begun;

int ninja_released_begin(void)
{
    int rc = 0;

    pthread_mutex_lock(&lock);
    /* Before the call itself, which has priority 0. */
    if (begun == 0 && ucm_set_event_handler(EVENTS, -1, on_event, NULL) != UCS_OK)
        rc = -ENOTSUP;
    if (begun == 0 && rc == 0 && !ninja_released_works()) {
        ucm_unset_event_handler(EVENTS, on_event, NULL);
        rc = -ENOTSUP;
    }
    begun += rc == 0;
    pthread_mutex_unlock(&lock);
    return rc;
}

void ninja_released_end(void)
{
    pthread_mutex_lock(&lock);
    if (--begun == 0)
        ucm_unset_event_handler(EVENTS, on_event, NULL);
    pthread_mutex_unlock(&lock);
}

/* Whether the call between two readings of `notes` was told. */
static bool was_noted(unsigned *before)
{
    unsigned now = atomic_load(&notes);
    bool noted = now != *before;

    *before = now;
    return noted;
}

bool ninja_released_works(void)
{
    unsigned before = atomic_load(&notes);
    void *page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool works;

    if (page == MAP_FAILED)
        return false;
    (void)was_noted(&before);
    works = mmap(page, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page &&
            was_noted(&before) && madvise(page, PAGE, MADV_DONTNEED) == 0 && was_noted(&before);
    return munmap(page, PAGE) == 0 && was_noted(&before) && works;
}

/* The child gets copies of pages, and with older kernels it may be the parent that gets the copy.
 */
__attribute__((constructor)) static void watch_forks(void)
{
    (void)pthread_atfork(NULL, ninja_released_note_all, NULL);
}

/* --- Taking ---------------------------------------------------------------------------------- */

static int read_removals(struct dl_phdr_info *info, size_t size, void *removals)
{
    *(unsigned long long *)removals = info->dlpi_subs;
    return 1;
}

/* The dynamic linker's own unmapping, of a library, has no hook. */
static bool library_was_unloaded(void)
{
    static unsigned long long last;
    unsigned long long removals = last;
    bool changed;

    (void)dl_iterate_phdr(read_removals, &removals);
    changed = removals != last;
    last = removals;
    return changed;
}

void ninja_released_take(void (*forget)(void *context, uintptr_t start, uintptr_t end),
                         void *context)
{
    if (library_was_unloaded())
        ninja_released_note_all();
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
