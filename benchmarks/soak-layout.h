/* Ways in which a message may lie in memory, with gaps that nothing may write to.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef SOAK_LAYOUT_H
#define SOAK_LAYOUT_H

#include "soak-plan.h"

/* Returns the bytes that a message of 'size' bytes spans in layout 'kind'. */
size_t soak_layout_span(enum soak_layout_kind kind, size_t size);

/* Spreads the 'size' bytes at 'packed' over the layout at 'spread', leaving the gaps alone. */
void soak_layout_scatter(enum soak_layout_kind kind, size_t size, const unsigned char *packed,
                         unsigned char *spread);

/* Collects a message of 'size' bytes from the layout at 'spread' to 'packed'. Returns true if the
 * gaps are still full of poison. */
bool soak_layout_gather(enum soak_layout_kind kind, size_t size, const unsigned char *spread,
                        unsigned char *packed);

/* A stretch of bytes of a layout. */
struct soak_segment {
    size_t offset, length;
};

/* Returns the number of stretches of 'kind' for 'size' bytes. */
size_t soak_layout_segments(enum soak_layout_kind kind, size_t size);

/* Returns stretch 'index'. */
struct soak_segment soak_layout_segment(enum soak_layout_kind kind, size_t size, size_t index);

/* Bytes of each block of a vector of 'size' bytes. */
size_t soak_layout_block(size_t size);

#define SOAK_INDEXED_BLOCKS 13

#endif
