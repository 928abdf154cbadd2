/* Message buffers that are poisoned once used, so that data which comes late is noticed.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef SOAK_BUFFER_H
#define SOAK_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOAK_POISON      0xa5
#define SOAK_CLASS_COUNT 32
#define SOAK_CLASS_REST  6 /* free buffers that each class lets rest */

/* One buffer; 'room' bytes at 'data' may be used. */
struct soak_buffer {
    struct soak_buffer *next, *previous; /* in the list of free ones */
    size_t room;
    unsigned char data[];
};

/* Free buffers by size, oldest first. */
struct soak_class {
    struct soak_buffer *oldest, *newest;
    unsigned count;
};

struct soak_pool {
    struct soak_class classes[SOAK_CLASS_COUNT];
    uint64_t turns;
    uint64_t overwritten; /* buffers found written to while they were free */
};

/* Returns a buffer of at least 'size' bytes, full of poison: by turns the one that was given back
 * last and one that has rested for some time. If somebody wrote to it meanwhile, prints that and
 * counts it in 'pool->overwritten'. Ends the program when memory runs out. */
struct soak_buffer *soak_buffer_take(struct soak_pool *pool, size_t size);

/* Poisons 'buffer' at once and gives it back to 'pool'. */
void soak_buffer_give(struct soak_pool *pool, struct soak_buffer *buffer);

/* Returns true if all of the 'size' bytes at 'data' are poison. */
bool soak_poison_intact(const unsigned char *data, size_t size);

/* Checks and frees all free buffers. */
void soak_pool_drain(struct soak_pool *pool);

/* Self-test: writes to a free buffer as late data would. Returns false if there is none. */
bool soak_pool_damage(struct soak_pool *pool);

#endif
