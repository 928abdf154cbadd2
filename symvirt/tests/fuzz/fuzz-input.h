/* Cuts a fuzzer's input into records: raw bytes, or a payload that gets a frame with a right
 * checksum around it. SPDX-License-Identifier: BSD-3-Clause
 *
 * A record: kind (1 byte), sequence or epoch choice (1 byte), length (2 bytes, little-endian),
 * data.
 */
#ifndef SYMVIRT_FUZZ_INPUT_H
#define SYMVIRT_FUZZ_INPUT_H

#include <endian.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "symvirt.h"

struct fuzz_record {
    uint8_t kind;
    uint8_t choice;
    const uint8_t *data;
    size_t size;
};

/* Takes the next record off the input. Returns 0 at its end. */
static inline int fuzz_next_record(const uint8_t **input, size_t *left, struct fuzz_record *record)
{
    size_t size;

    if (*left < 4)
        return 0;
    size = (*input)[2] | (size_t)(*input)[3] << 8;
    if (size > *left - 4)
        size = *left - 4;
    *record = (struct fuzz_record){(*input)[0], (*input)[1], *input + 4, size};
    *input += 4 + size;
    *left -= 4 + size;
    return 1;
}

/* A frame around any payload, for the caller to free. */
static inline uint8_t *fuzz_make_frame(const struct fuzz_record *record, uint64_t sequence,
                                       uint64_t epoch, size_t *size)
{
    uint8_t *frame = calloc(1, SYMVIRT_FRAME_HEADER + record->size);
    uint32_t length = htobe32((uint32_t)record->size), crc;

    sequence = htobe64(sequence);
    epoch = htobe64(epoch);
    memcpy(frame, "\xffSYV", 4);
    memcpy(frame + 4, &length, 4);
    memcpy(frame + 16, &sequence, 8);
    memcpy(frame + 24, &epoch, 8);
    if (record->size)
        memcpy(frame + SYMVIRT_FRAME_HEADER, record->data, record->size);
    crc = symvirt_crc32c(0, frame + 4, 4);
    crc = htobe32(symvirt_crc32c(crc, frame + 12, SYMVIRT_FRAME_HEADER - 12 + record->size));
    memcpy(frame + 8, &crc, 4);
    *size = SYMVIRT_FRAME_HEADER + record->size;
    return frame;
}

#endif
