/*
 * Frames: their memory, by size class, and the check of what arrives.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Inline bytes of each class; larger frames come straight from malloc. The last fits ob1's largest
 * fragment. */
static const size_t class_size[] = {128, 512, 2304, 9216, 36 * 1024, 72 * 1024, 136 * 1024};
/* Frames that a class keeps for reuse: more would pin memory after a burst. */
static const size_t class_keep[] = {4096, 1024, 512, 256, 64, 32, 32};
#define CLASSES NINJA_FRAME_CLASSES
_Static_assert(sizeof(class_size) / sizeof(class_size[0]) == CLASSES, "a size for each class");

struct ninja_frame *ninja_frame_new(struct ninja_frame_pool *pool, size_t inline_size)
{
    uint8_t size_class = 0;
    struct ninja_frame *frame;
    size_t room;

    while (size_class < CLASSES && class_size[size_class] < inline_size)
        size_class++;
    room = size_class < CLASSES ? class_size[size_class] : inline_size;
    if (size_class < CLASSES && pool->free[size_class] != NULL) {
        frame = pool->free[size_class];
        pool->free[size_class] = frame->next;
        pool->free_count[size_class]--;
    } else {
        frame = malloc(sizeof(*frame) + room);
        if (frame == NULL)
            return NULL;
    }
    memset(frame, 0, sizeof(*frame));
    frame->size_class = size_class;
    frame->room = (uint32_t)room;
    frame->header.magic = NINJA_FRAME_MAGIC;
    return frame;
}

void ninja_frame_free(struct ninja_frame_pool *pool, struct ninja_frame *frame)
{
    if (frame == NULL)
        return;
    unsigned size_class = frame->size_class;

    if (size_class >= CLASSES || pool->free_count[size_class] >= class_keep[size_class]) {
        free(frame);
        return;
    }
    frame->next = pool->free[size_class];
    pool->free[size_class] = frame;
    pool->free_count[size_class]++;
}

void ninja_frame_pool_destroy(struct ninja_frame_pool *pool)
{
    for (size_t i = 0; i < CLASSES; i++) {
        while (pool->free[i] != NULL) {
            struct ninja_frame *frame = pool->free[i];

            pool->free[i] = frame->next;
            free(frame);
        }
        pool->free_count[i] = 0;
    }
}

int ninja_frame_header_check(const struct ninja_frame_header *header)
{
    if (header->magic != NINJA_FRAME_MAGIC || header->type == 0 ||
        header->type >= NINJA_FRAME_TYPES || header->length > NINJA_FRAME_PAYLOAD_MAX)
        return -EPROTO;
    if (header->type >= NINJA_FRAME_ACK && header->length != 0)
        return -EPROTO;
    return 0;
}

const char *ninja_frame_type_name(unsigned type)
{
    static const char *const names[NINJA_FRAME_TYPES] = {
        [NINJA_FRAME_DATA] = "DATA",         [NINJA_FRAME_GET_REQUEST] = "GET_REQUEST",
        [NINJA_FRAME_GET_DATA] = "GET_DATA", [NINJA_FRAME_CONTROL] = "CONTROL",
        [NINJA_FRAME_ACK] = "ACK",           [NINJA_FRAME_CONTROL_ACK] = "CONTROL_ACK",
        [NINJA_FRAME_PROBE] = "PROBE",       [NINJA_FRAME_ECHO] = "ECHO",
        [NINJA_FRAME_BYE] = "BYE",
    };

    return type < NINJA_FRAME_TYPES && names[type] != NULL ? names[type] : "?";
}
