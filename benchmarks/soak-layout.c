/* Spreads and collects messages with gaps by its own arithmetic, as a check on MPI's datatypes.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "soak-layout.h"
#include "soak-buffer.h"

#include <string.h>

size_t soak_layout_block(size_t size)
{
    if (size <= 1024)
        return 8;
    return size <= 262144 ? 250 : 3001;
}

size_t soak_layout_segments(enum soak_layout_kind kind, size_t size)
{
    size_t block = soak_layout_block(size);

    if (size == 0)
        return 0;
    switch (kind) {
    case SOAK_VECTOR:
        return (size + block - 1) / block;
    case SOAK_INDEXED:
        return size < SOAK_INDEXED_BLOCKS ? size : SOAK_INDEXED_BLOCKS;
    default:
        return 1;
    }
}

struct soak_segment soak_layout_segment(enum soak_layout_kind kind, size_t size, size_t index)
{
    size_t block = soak_layout_block(size), count, first, end;

    switch (kind) {
    case SOAK_VECTOR:
        first = block * index;
        return (struct soak_segment){2 * first, size - first < block ? size - first : block};
    case SOAK_INDEXED:
        /* Unequal lengths, and gaps that grow by odd numbers so that nothing stays aligned. */
        count = soak_layout_segments(kind, size);
        first = index * index * size / (count * count);
        end = (index + 1) * (index + 1) * size / (count * count);
        return (struct soak_segment){first + index * (2 * index + 3), end - first};
    default:
        return (struct soak_segment){0, size};
    }
}

size_t soak_layout_span(enum soak_layout_kind kind, size_t size)
{
    size_t count = soak_layout_segments(kind, size);
    struct soak_segment last;

    if (count == 0)
        return 0;
    last = soak_layout_segment(kind, size, count - 1);
    return last.offset + last.length;
}

void soak_layout_scatter(enum soak_layout_kind kind, size_t size, const unsigned char *packed,
                         unsigned char *spread)
{
    size_t i, count = soak_layout_segments(kind, size);
    struct soak_segment segment;

    for (i = 0; i < count; i++) {
        segment = soak_layout_segment(kind, size, i);
        memcpy(spread + segment.offset, packed, segment.length);
        packed += segment.length;
    }
}

bool soak_layout_gather(enum soak_layout_kind kind, size_t size, const unsigned char *spread,
                        unsigned char *packed)
{
    size_t i, end = 0, count = soak_layout_segments(kind, size);
    struct soak_segment segment;
    bool intact = true;

    for (i = 0; i < count; i++) {
        segment = soak_layout_segment(kind, size, i);
        intact &= soak_poison_intact(spread + end, segment.offset - end);
        memcpy(packed, spread + segment.offset, segment.length);
        packed += segment.length;
        end = segment.offset + segment.length;
    }
    return intact;
}
