/* Stamps and verifies messages and keeps account of which have arrived.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "soak-message.h"

#include <string.h>

#define STAMP_MAGIC 0x4e4a534bu /* "NJSK" */

/* The head of a message; the rest of it is generated from the same identity. */
struct stamp {
    uint32_t magic;
    uint32_t stream;
    uint32_t src;
    uint32_t dst;
    uint64_t size;
    uint64_t seq;
    uint64_t checksum; /* of the fields above and the rest of the message */
};
_Static_assert(sizeof(struct stamp) == SOAK_STAMP_SIZE, "the stamp has no padding");

const char *soak_stream_name(unsigned stream)
{
    static const char *const names[SOAK_STREAM_COUNT] = {
        "named", "ordered", "any-tag", "any-source", "any-source-any-tag", "persistent",
    };
    return stream < SOAK_STREAM_COUNT ? names[stream] : "unknown";
}

uint64_t soak_mix(uint64_t value)
{
    value += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

static uint64_t identity_key(const struct soak_identity *id)
{
    uint64_t key = soak_mix(id->seed ^ 0x736f616bu);

    key = soak_mix(key ^ id->src);
    key = soak_mix(key ^ ((uint64_t)id->dst << 32) ^ id->stream);
    return soak_mix(key ^ id->seq);
}

/* Returns the 'index'th word of the message with 'key'. */
static inline uint64_t payload_word(uint64_t key, uint64_t index)
{
    uint64_t word = (key + index) * 0x9e3779b97f4a7c15u;

    return word ^ (word >> 32);
}

static void payload_fill(unsigned char *data, size_t size, uint64_t key)
{
    size_t words = size / 8, i;
    uint64_t word;

    for (i = 0; i < words; i++) {
        word = payload_word(key, i);
        memcpy(data + 8 * i, &word, 8);
    }
    if (size % 8) {
        word = payload_word(key, words);
        memcpy(data + 8 * words, &word, size % 8);
    }
}

/* Returns the offset of the first byte that differs from what payload_fill makes, or 'size'. */
static size_t payload_compare(const unsigned char *data, size_t size, uint64_t key)
{
    unsigned char expected[4096];
    size_t offset, length, i;

    /* A multiple of the word size at a time keeps the word index whole. */
    for (offset = 0; offset < size; offset += length) {
        length = size - offset < sizeof expected ? size - offset : sizeof expected;
        payload_fill(expected, length, key + offset / 8);
        if (memcmp(expected, data + offset, length) != 0) {
            for (i = 0; data[offset + i] == expected[i]; i++)
                ;
            return offset + i;
        }
    }
    return size;
}

/* Every step is a bijection of a lane, so no change of a single word can go unseen. */
static uint64_t checksum_of(const unsigned char *data, size_t size, uint64_t start)
{
    uint64_t lane[4] = {start, soak_mix(start), ~start, soak_mix(~start)}, word = 0;
    size_t i = 0, l;

    for (; i + 32 <= size; i += 32) {
        for (l = 0; l < 4; l++) {
            memcpy(&word, data + i + 8 * l, 8);
            lane[l] = (lane[l] ^ word) * 0x9e3779b97f4a7c15u;
            lane[l] ^= lane[l] >> 29;
        }
    }
    for (l = 0; i < size; i += 8, l++) {
        word = 0;
        memcpy(&word, data + i, size - i < 8 ? size - i : 8);
        lane[l] = (lane[l] ^ word) * 0x9e3779b97f4a7c15u;
        lane[l] ^= lane[l] >> 29;
    }
    return soak_mix(soak_mix(soak_mix(lane[0]) + lane[1]) + lane[2]) + lane[3] + size;
}

static uint64_t stamp_checksum(const struct stamp *stamp, const unsigned char *data, size_t size,
                               uint64_t seed)
{
    uint64_t start;

    start = checksum_of((const unsigned char *)stamp, offsetof(struct stamp, checksum), seed);
    return checksum_of(data + sizeof *stamp, size - sizeof *stamp, start);
}

void soak_message_stamp(void *data, size_t size, const struct soak_identity *id)
{
    unsigned char *bytes = data;
    struct stamp stamp = {
        .magic = STAMP_MAGIC,
        .stream = id->stream,
        .src = id->src,
        .dst = id->dst,
        .size = size,
        .seq = id->seq,
    };

    if (size < sizeof stamp) {
        payload_fill(bytes, size, identity_key(id));
        return;
    }
    payload_fill(bytes + sizeof stamp, size - sizeof stamp, identity_key(id));
    stamp.checksum = stamp_checksum(&stamp, bytes, size, id->seed);
    memcpy(bytes, &stamp, sizeof stamp);
}

/* Finds the first byte of a damaged message that is not as its own stamp, or else the expected
 * one, says. */
static size_t first_bad_offset(const unsigned char *data, size_t size, const struct stamp *stamp,
                               const struct soak_identity *expected)
{
    struct soak_identity claimed = *expected;
    unsigned char head[SOAK_STAMP_SIZE];
    struct stamp right = {
        .magic = STAMP_MAGIC,
        .stream = expected->stream,
        .src = expected->src,
        .dst = expected->dst,
        .size = size,
        .seq = expected->seq,
    };
    size_t i;

    if (stamp->magic == STAMP_MAGIC && stamp->src == expected->src && stamp->dst == expected->dst &&
        stamp->stream == expected->stream && stamp->size == size)
        claimed.seq = stamp->seq;
    right.seq = claimed.seq;
    memcpy(head, &right, sizeof head);
    for (i = 0; i < offsetof(struct stamp, checksum); i++)
        if (data[i] != head[i])
            return i;
    i = payload_compare(data + sizeof *stamp, size - sizeof *stamp, identity_key(&claimed));
    return i < size - sizeof *stamp ? sizeof *stamp + i : offsetof(struct stamp, checksum);
}

enum soak_verdict soak_message_verify(const void *data, size_t size,
                                      const struct soak_identity *expected,
                                      struct soak_identity *found, size_t *bad_offset)
{
    const unsigned char *bytes = data;
    struct stamp stamp;

    *found = *expected;
    if (size < sizeof stamp) {
        *bad_offset = payload_compare(bytes, size, identity_key(expected));
        return *bad_offset < size ? SOAK_CORRUPT : SOAK_INTACT;
    }
    memcpy(&stamp, bytes, sizeof stamp);
    if (stamp.magic != STAMP_MAGIC || stamp.size != size ||
        stamp.checksum != stamp_checksum(&stamp, bytes, size, expected->seed)) {
        *bad_offset = first_bad_offset(bytes, size, &stamp, expected);
        return SOAK_CORRUPT;
    }
    found->seq = stamp.seq;
    found->src = stamp.src;
    found->dst = stamp.dst;
    found->stream = stamp.stream;
    if (stamp.seq == expected->seq && stamp.src == expected->src && stamp.dst == expected->dst &&
        stamp.stream == expected->stream)
        return SOAK_INTACT;
    return SOAK_OTHER;
}

static bool window_test(const struct soak_tracker *tracker, uint64_t seq)
{
    uint64_t bit = seq % SOAK_TRACKER_WINDOW;

    return tracker->seen[bit / 64] >> (bit % 64) & 1;
}

static void window_set(struct soak_tracker *tracker, uint64_t seq, bool value)
{
    uint64_t bit = seq % SOAK_TRACKER_WINDOW, mask = UINT64_C(1) << (bit % 64);

    if (value)
        tracker->seen[bit / 64] |= mask;
    else
        tracker->seen[bit / 64] &= ~mask;
}

enum soak_arrival soak_tracker_note(struct soak_tracker *tracker, uint64_t seq)
{
    uint64_t skipped;

    if (seq >= tracker->next) {
        skipped = seq - tracker->next;
        if (skipped >= SOAK_TRACKER_WINDOW)
            memset(tracker->seen, 0, sizeof tracker->seen);
        else
            while (tracker->next < seq)
                window_set(tracker, tracker->next++, false);
        tracker->next = seq + 1;
        window_set(tracker, seq, true);
        tracker->distinct++;
        return SOAK_ARRIVED;
    }
    if (tracker->next - seq > SOAK_TRACKER_WINDOW || window_test(tracker, seq)) {
        tracker->duplicated++;
        return SOAK_DUPLICATED;
    }
    window_set(tracker, seq, true);
    tracker->distinct++;
    tracker->reordered++;
    return SOAK_REORDERED;
}

uint64_t soak_tracker_lost(const struct soak_tracker *tracker, uint64_t sent)
{
    return sent > tracker->distinct ? sent - tracker->distinct : 0;
}
