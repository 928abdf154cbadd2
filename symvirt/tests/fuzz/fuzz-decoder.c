/* Fuzz target: the decoder on hostile bytes, in one piece and in small ones, which must give the
 * same frames. SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include "fuzz-input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    unsigned frames;
    uint64_t sequences; /* a sum, to compare */
};

static void on_frame(void *ctx, json_t *message, uint64_t sequence, uint64_t epoch)
{
    struct seen *seen = ctx;
    enum symvirt_message_type type;
    struct symvirt_fabric fabric;
    void *frame;
    size_t size;

    if (!json_is_object(message))
        abort();
    seen->frames++;
    seen->sequences += sequence * seen->frames;
    symvirt_fabric_from_json(json_object_get(message, "fabric"), &fabric);
    if (!symvirt_message_check(message, &type) && type >= SYMVIRT_MESSAGE_TYPES)
        abort();
    /* What was accepted can be sent again, unless it grows by escapes. */
    if (!symvirt_frame_encode(message, sequence, epoch, &frame, &size))
        free(frame);
}

/* Feeds all records; 'step' bytes at a time, or a record at a time if it is 0. */
static void feed(const uint8_t *data, size_t left, size_t step, struct seen *seen)
{
    struct symvirt_decoder *decoder;
    struct fuzz_record record;
    uint64_t sequence = 0;

    if (symvirt_decoder_create(&decoder, on_frame, seen))
        abort();
    while (fuzz_next_record(&data, &left, &record)) {
        uint8_t *frame = NULL;
        const uint8_t *bytes = record.data;
        size_t size = record.size, at = 0;

        if (record.kind & 1)
            bytes = frame = fuzz_make_frame(&record, ++sequence, record.choice, &size);
        while (at < size) {
            size_t piece = step && step < size - at ? step : size - at;

            symvirt_decoder_feed(decoder, bytes + at, piece);
            at += piece;
        }
        free(frame);
    }
    symvirt_decoder_destroy(decoder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen whole = {0, 0}, pieces = {0, 0};

    feed(data, size, 0, &whole);
    feed(data, size, 3, &pieces);
    if (whole.frames != pieces.frames || whole.sequences != pieces.sequences)
        abort();
    return 0;
}
