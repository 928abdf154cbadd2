/* Frames of strict JSON: encoding, and a decoder that finds its way back after lost or foreign
 * bytes. SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "symvirt.h"

static const uint8_t frame_magic[4] = {0xff, 'S', 'Y', 'V'};

struct frame_header {
    uint8_t magic[4];
    uint32_t length; /* this and the following numbers are big-endian */
    uint32_t crc;
    uint32_t zero;
    uint64_t sequence;
    uint64_t epoch;
};
_Static_assert(sizeof(struct frame_header) == SYMVIRT_FRAME_HEADER, "the header has no padding");

struct symvirt_decoder {
    symvirt_frame_handler handler;
    void *ctx;
    struct symvirt_decoder_counters counters;
    size_t begin;         /* where the bytes not yet dealt with begin in buffer */
    size_t used;          /* how many they are */
    size_t payload_clean; /* bytes of the first frame's payload known to be free of 0xff */
    uint8_t buffer[SYMVIRT_FRAME_HEADER + SYMVIRT_PAYLOAD_MAX];
};

static uint32_t frame_crc(const struct frame_header *header, const void *payload, size_t size)
{
    uint32_t crc = symvirt_crc32c(0, &header->length, sizeof(header->length));

    crc = symvirt_crc32c(crc, &header->zero, sizeof(*header) - offsetof(struct frame_header, zero));
    return symvirt_crc32c(crc, payload, size);
}

/* True if brackets outside strings nest at most SYMVIRT_JSON_DEPTH_MAX deep: jansson recurses, so
 * this comes first. */
static int json_depth_ok(const char *text, size_t size)
{
    int depth = 0, in_string = 0;

    for (size_t i = 0; i < size; i++) {
        char c = text[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = 0;
        } else if (c == '"') {
            in_string = 1;
        } else if (c == '{' || c == '[') {
            if (++depth > SYMVIRT_JSON_DEPTH_MAX)
                return 0;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return 1;
}

int symvirt_frame_encode(const json_t *message, uint64_t sequence, uint64_t epoch, void **frame,
                         size_t *size)
{
    const size_t flags = JSON_COMPACT;
    size_t length;
    struct frame_header *header;
    char *payload;

    if (!json_is_object(message))
        return -EINVAL;
    length = json_dumpb(message, NULL, 0, flags);
    if (!length)
        return -ENOMEM;
    if (length > SYMVIRT_PAYLOAD_MAX)
        return -EMSGSIZE;
    header = malloc(sizeof(*header) + length);
    if (!header)
        return -ENOMEM;
    payload = (char *)(header + 1);
    if (json_dumpb(message, payload, length, flags) != length) {
        free(header);
        return -ENOMEM;
    }
    if (!json_depth_ok(payload, length)) {
        free(header);
        return -EINVAL;
    }
    memcpy(header->magic, frame_magic, sizeof(frame_magic));
    header->length = htobe32((uint32_t)length);
    header->zero = 0;
    header->sequence = htobe64(sequence);
    header->epoch = htobe64(epoch);
    header->crc = htobe32(frame_crc(header, payload, length));
    *frame = header;
    *size = sizeof(*header) + length;
    return 0;
}

int symvirt_decoder_create(struct symvirt_decoder **decoder, symvirt_frame_handler handler,
                           void *ctx)
{
    struct symvirt_decoder *made = calloc(1, sizeof(*made));

    if (!made)
        return -ENOMEM;
    made->handler = handler;
    made->ctx = ctx;
    *decoder = made;
    return 0;
}

void symvirt_decoder_destroy(struct symvirt_decoder *decoder)
{
    free(decoder);
}

void symvirt_decoder_reset(struct symvirt_decoder *decoder)
{
    decoder->counters.bytes_skipped += decoder->used;
    decoder->used = 0;
    decoder->payload_clean = 0;
}

const struct symvirt_decoder_counters *
symvirt_decoder_counters(const struct symvirt_decoder *decoder)
{
    return &decoder->counters;
}

static void decoder_drop(struct symvirt_decoder *decoder, size_t size)
{
    decoder->begin += size;
    decoder->used -= size;
    decoder->payload_clean = 0;
}

/* Drops at least 'from' bytes, up to where the next frame may begin. */
static void decoder_resync(struct symvirt_decoder *decoder, size_t from)
{
    const uint8_t *bytes = decoder->buffer + decoder->begin;
    size_t at = from;

    while (at < decoder->used) {
        const uint8_t *found = memchr(bytes + at, frame_magic[0], decoder->used - at);
        size_t have;

        at = found ? (size_t)(found - bytes) : decoder->used;
        have = decoder->used - at;
        if (have > sizeof(frame_magic))
            have = sizeof(frame_magic);
        if (!memcmp(bytes + at, frame_magic, have))
            break; /* a whole magic, or what may become one */
        at++;
    }
    decoder->counters.bytes_skipped += at;
    decoder_drop(decoder, at);
}

/* Hands over the first frame, whose 'length' bytes of payload are complete. */
static void decoder_deliver(struct symvirt_decoder *decoder, const struct frame_header *header,
                            size_t length)
{
    const char *payload = (const char *)decoder->buffer + decoder->begin + sizeof(*header);
    json_t *message = NULL;

    if (be32toh(header->crc) != frame_crc(header, payload, length)) {
        decoder->counters.bad_crc++;
        decoder_resync(decoder, 1);
        return;
    }
    if (json_depth_ok(payload, length))
        message = json_loadb(payload, length, JSON_REJECT_DUPLICATES, NULL);
    decoder_drop(decoder, sizeof(*header) + length);
    if (!json_is_object(message)) {
        decoder->counters.bad_json++;
        json_decref(message);
        return;
    }
    decoder->counters.frames++;
    decoder->handler(decoder->ctx, message, be64toh(header->sequence), be64toh(header->epoch));
    json_decref(message);
}

/* Looks at the first frame. Returns 0 when more bytes are needed to go on. */
static int decoder_step(struct symvirt_decoder *decoder)
{
    struct frame_header header;
    size_t length, have;
    const uint8_t *bytes = decoder->buffer + decoder->begin, *payload = bytes + sizeof(header),
                  *cut;

    if (decoder->used &&
        memcmp(bytes, frame_magic,
               decoder->used < sizeof(frame_magic) ? decoder->used : sizeof(frame_magic))) {
        decoder_resync(decoder, 1);
        return 1;
    }
    if (decoder->used < sizeof(header))
        return 0;
    memcpy(&header, bytes, sizeof(header));
    length = be32toh(header.length);
    if (length < 2 || length > SYMVIRT_PAYLOAD_MAX || header.zero) {
        decoder->counters.bad_length++;
        decoder_resync(decoder, 1);
        return 1;
    }
    have = decoder->used - sizeof(header);
    if (have > length)
        have = length;
    cut = memchr(payload + decoder->payload_clean, frame_magic[0], have - decoder->payload_clean);
    if (cut) {
        /* The next frame may even begin inside this one's header, so search from the front. */
        decoder->counters.cut++;
        decoder_resync(decoder, 1);
        return 1;
    }
    decoder->payload_clean = have;
    if (have < length)
        return 0;
    decoder_deliver(decoder, &header, length);
    return 1;
}

void symvirt_decoder_feed(struct symvirt_decoder *decoder, const void *data, size_t size)
{
    const uint8_t *bytes = data;

    while (size) {
        size_t room = sizeof(decoder->buffer) - decoder->used;
        size_t take = size < room ? size : room;

        memmove(decoder->buffer, decoder->buffer + decoder->begin, decoder->used);
        decoder->begin = 0;
        memcpy(decoder->buffer + decoder->used, bytes, take);
        decoder->used += take;
        bytes += take;
        size -= take;
        while (decoder_step(decoder))
            ;
    }
}
