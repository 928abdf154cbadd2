/* Keeps free message buffers full of poison and checks it before they are used again.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "soak-buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned class_of(size_t size)
{
    unsigned class = 6; /* no buffer is smaller than 64 bytes */

    while (((size_t)1 << class) < size)
        class ++;
    return class;
}

bool soak_poison_intact(const unsigned char *data, size_t size)
{
    return size == 0 || (data[0] == SOAK_POISON && memcmp(data, data + 1, size - 1) == 0);
}

static void class_unlink(struct soak_class *class, struct soak_buffer *buffer)
{
    if (buffer->previous)
        buffer->previous->next = buffer->next;
    else
        class->oldest = buffer->next;
    if (buffer->next)
        buffer->next->previous = buffer->previous;
    else
        class->newest = buffer->previous;
    class->count--;
}

static void buffer_check(struct soak_pool *pool, struct soak_buffer *buffer)
{
    size_t i;

    if (soak_poison_intact(buffer->data, buffer->room))
        return;
    pool->overwritten++;
    for (i = 0; buffer->data[i] == SOAK_POISON; i++)
        ;
    fprintf(stderr,
            "ninja-soak: OVERWRITTEN: a buffer of %zu bytes was written to at offset %zu after "
            "its message was complete\n",
            buffer->room, i);
    memset(buffer->data, SOAK_POISON, buffer->room);
}

struct soak_buffer *soak_buffer_take(struct soak_pool *pool, size_t size)
{
    unsigned number = class_of(size);
    struct soak_class *class = &pool->classes[number];
    struct soak_buffer *buffer = NULL;

    if (class->count > 0 && pool->turns++ % 2)
        buffer = class->newest;
    else if (class->count >= SOAK_CLASS_REST)
        buffer = class->oldest;
    if (buffer) {
        class_unlink(class, buffer);
        buffer_check(pool, buffer);
        return buffer;
    }
    buffer = malloc(sizeof *buffer + ((size_t)1 << number));
    if (!buffer) {
        fprintf(stderr, "ninja-soak: out of memory for a buffer of %zu bytes\n", size);
        exit(1);
    }
    buffer->room = (size_t)1 << number;
    memset(buffer->data, SOAK_POISON, buffer->room);
    return buffer;
}

void soak_buffer_give(struct soak_pool *pool, struct soak_buffer *buffer)
{
    struct soak_class *class = &pool->classes[class_of(buffer->room)];

    memset(buffer->data, SOAK_POISON, buffer->room);
    buffer->next = NULL;
    buffer->previous = class->newest;
    if (class->newest)
        class->newest->next = buffer;
    else
        class->oldest = buffer;
    class->newest = buffer;
    class->count++;
}

void soak_pool_drain(struct soak_pool *pool)
{
    struct soak_buffer *buffer;
    unsigned i;

    for (i = 0; i < SOAK_CLASS_COUNT; i++) {
        while ((buffer = pool->classes[i].oldest)) {
            class_unlink(&pool->classes[i], buffer);
            buffer_check(pool, buffer);
            free(buffer);
        }
    }
}

bool soak_pool_damage(struct soak_pool *pool)
{
    unsigned i;

    for (i = 0; i < SOAK_CLASS_COUNT; i++) {
        if (pool->classes[i].oldest) {
            pool->classes[i].oldest->data[pool->classes[i].oldest->room / 2] ^= 1;
            return true;
        }
    }
    return false;
}
