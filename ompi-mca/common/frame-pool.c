/*
 * The memory of frames: slabs by size class, given back to the system when nothing needs them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <string.h>
#include <sys/mman.h>

#include "frame.h"

/* Inline bytes of each class. The last fits ob1's largest fragment; a larger frame has a slab of
 * its own. */
static const size_t class_size[] = {128, 512, 2304, 9216, 36 * 1024, 72 * 1024, 136 * 1024};
#define CLASSES NINJA_FRAME_CLASSES
_Static_assert(sizeof(class_size) / sizeof(class_size[0]) == CLASSES, "a size for each class");

/* A slab is at least so large, and holds so many frames. */
#define SLAB_BYTES_MIN  (64U * 1024U)
#define SLAB_FRAMES_MIN 8U

#define PAGE_BYTES      4096U
#define FRAME_ALIGNMENT 64U

/*
 * Frames of one class in one piece of memory, which goes back to the system as a whole. From malloc
 * a burst would stay in the process for good: any small piece that lives on holds all below it.
 */
struct ninja_slab {
    LIST_ENTRY(ninja_slab) entry; /* while it has room */
    struct ninja_frame *free;     /* frames given back */
    size_t bytes;                 /* of the mapping */
    size_t frame_bytes;
    unsigned capacity;
    unsigned made; /* frames that were ever used */
    unsigned used;
};

static size_t aligned(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}

#define SLAB_HEAD aligned(sizeof(struct ninja_slab), FRAME_ALIGNMENT)

/* A slab for frames with `room` bytes inline; `single`: for one of them. */
static struct ninja_slab *map_slab(size_t room, bool single)
{
    size_t frame_bytes = aligned(sizeof(struct ninja_frame) + room, FRAME_ALIGNMENT);
    size_t bytes = SLAB_HEAD + (single ? 1 : SLAB_FRAMES_MIN) * frame_bytes;
    struct ninja_slab *slab;

    bytes = aligned(bytes < SLAB_BYTES_MIN && !single ? SLAB_BYTES_MIN : bytes, PAGE_BYTES);
    slab = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (slab == MAP_FAILED)
        return NULL;
    slab->bytes = bytes; /* all else is 0 */
    slab->frame_bytes = frame_bytes;
    slab->capacity = single ? 1 : (unsigned)((bytes - SLAB_HEAD) / frame_bytes);
    return slab;
}

/* A slab of `size_class` with room for one more; NULL when memory is exhausted. */
static struct ninja_slab *find_room(struct ninja_frame_pool *pool, unsigned size_class)
{
    struct ninja_slab *slab = LIST_FIRST(&pool->room[size_class]);

    if (slab != NULL)
        return slab;
    slab = map_slab(class_size[size_class], false);
    if (slab == NULL)
        return NULL;
    LIST_INSERT_HEAD(&pool->room[size_class], slab, entry);
    pool->idle_bytes += slab->bytes;
    return slab;
}

static struct ninja_frame *take(struct ninja_slab *slab)
{
    struct ninja_frame *frame = slab->free;

    slab->used++;
    if (frame != NULL)
        slab->free = frame->next;
    else
        frame = (void *)((unsigned char *)slab + SLAB_HEAD + slab->made++ * slab->frame_bytes);
    memset(frame, 0, sizeof(*frame));
    frame->slab = slab;
    frame->header.magic = NINJA_FRAME_MAGIC;
    return frame;
}

struct ninja_frame *ninja_frame_new(struct ninja_frame_pool *pool, size_t inline_size)
{
    uint8_t size_class = 0;
    struct ninja_frame *frame;
    struct ninja_slab *slab;

    while (size_class < CLASSES && class_size[size_class] < inline_size)
        size_class++;
    slab = size_class < CLASSES ? find_room(pool, size_class) : map_slab(inline_size, true);
    if (slab == NULL)
        return NULL;
    frame = take(slab);
    frame->size_class = size_class;
    frame->room = (uint32_t)(size_class < CLASSES ? class_size[size_class] : inline_size);
    if (size_class == CLASSES)
        return frame;
    if (slab->used == 1) {
        pool->idle_bytes -= slab->bytes;
        if (pool->idle_bytes < pool->idle_least)
            pool->idle_least = pool->idle_bytes;
    }
    if (slab->used == slab->capacity)
        LIST_REMOVE(slab, entry);
    return frame;
}

void ninja_frame_free(struct ninja_frame_pool *pool, struct ninja_frame *frame)
{
    struct ninja_slab *slab;

    if (frame == NULL)
        return;
    slab = frame->slab;
    if (frame->size_class == CLASSES) {
        (void)munmap(slab, slab->bytes);
        return;
    }
    frame->next = slab->free;
    slab->free = frame;
    if (slab->used-- == slab->capacity)
        LIST_INSERT_HEAD(&pool->room[frame->size_class], slab, entry);
    if (slab->used > 0)
        return;
    /* One is kept in any case: for a frame that comes and goes. */
    if (pool->idle_bytes > 0 && pool->idle_bytes + slab->bytes > pool->limit) {
        LIST_REMOVE(slab, entry);
        (void)munmap(slab, slab->bytes);
    } else {
        pool->idle_bytes += slab->bytes;
    }
}

/* Gives back idle slabs of `bytes` in all. */
static void release(struct ninja_frame_pool *pool, size_t bytes)
{
    for (size_t i = 0; i < CLASSES && bytes > 0; i++) {
        struct ninja_slab *slab = LIST_FIRST(&pool->room[i]);

        while (slab != NULL && bytes > 0) {
            struct ninja_slab *next = LIST_NEXT(slab, entry);

            if (slab->used == 0 && slab->bytes <= bytes) {
                bytes -= slab->bytes;
                pool->idle_bytes -= slab->bytes;
                LIST_REMOVE(slab, entry);
                (void)munmap(slab, slab->bytes);
            }
            slab = next;
        }
    }
}

void ninja_frame_pool_trim(struct ninja_frame_pool *pool)
{
    release(pool, pool->idle_least);
    pool->idle_least = pool->idle_bytes;
}

void ninja_frame_pool_destroy(struct ninja_frame_pool *pool)
{
    release(pool, pool->idle_bytes);
}
