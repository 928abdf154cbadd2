/* Decides what each received message means, and keeps the account.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "soak.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define FINDINGS_MAX 10 /* printed by each rank */
#define FAULT_BATCH  20 /* the self-test's fault comes when the run is under way */

void soak_work_done(struct soak *soak)
{
    soak->work++;
    heartbeat_beat(&soak->heartbeat, HEARTBEAT_WORK, soak->counters.verified, soak->counters.bytes);
}

/* Prints one finding, with what is known of the message. Returns false if there were so many that
 * no more are printed. */
static bool finding_print(struct soak *soak, const char *what, const struct soak_identity *id,
                          size_t size)
{
    if (soak->findings++ >= FINDINGS_MAX)
        return false;
    fprintf(stderr,
            "ninja-soak: %s: rank %d, batch %" PRIu64 ": message %" PRIu64
            " of stream %s from rank %" PRIu32 ", %zu bytes\n",
            what, soak->rank, soak->batch, id->seq, soak_stream_name(id->stream), id->src, size);
    if (soak->findings == FINDINGS_MAX)
        fprintf(stderr, "ninja-soak: rank %d: further findings are only counted\n", soak->rank);
    return true;
}

static struct soak_tracker *tracker_of(struct soak *soak, const struct soak_identity *id)
{
    struct soak_peer *peer = &soak->peers[id->src];

    if (!peer->received) {
        peer->received = calloc(SOAK_STREAM_COUNT, sizeof *peer->received);
        if (!peer->received) {
            fprintf(stderr, "ninja-soak: out of memory\n");
            exit(1);
        }
    }
    return &peer->received[id->stream];
}

/* Notes the arrival of an undamaged message where 'expected' was. Requests may complete in any
 * order, so only a message in the place of another one is out of order. */
static void arrival_note(struct soak *soak, const struct soak_identity *id,
                         const struct soak_identity *expected, size_t size)
{
    switch (soak_tracker_note(tracker_of(soak, id), id->seq)) {
    case SOAK_DUPLICATED:
        soak->counters.duplicated++;
        finding_print(soak, "DUPLICATED", id, size);
        return;
    default:
        break;
    }
    if (id->seq != expected->seq) {
        soak->counters.reordered++;
        finding_print(soak, "REORDERED", id, size);
    }
    soak->counters.verified++;
    soak->counters.bytes += size;
}

/* Makes the self-test's fault, once; returns false if the message is to be ignored. */
static bool fault_make(struct soak *soak, unsigned char *data, size_t size,
                       struct soak_identity *id)
{
    if (soak->fault_swap && id->stream == SOAK_STREAM_ORDERED) {
        soak->fault_swap = false;
        id->seq--;
    }
    if (soak->fault_done || soak->batch < FAULT_BATCH)
        return true;
    switch (soak->options->fault) {
    case SOAK_FAULT_FLIP:
        soak->fault_done = size > 0;
        if (size > 0)
            data[size / 2] ^= 0x10;
        return true;
    case SOAK_FAULT_DROP:
        soak->fault_done = true;
        return false;
    case SOAK_FAULT_DUPLICATE:
        soak->fault_done = true;
        arrival_note(soak, id, id, size);
        return true;
    case SOAK_FAULT_REORDER:
        if (id->stream == SOAK_STREAM_ORDERED && id->src == (uint32_t)(soak->rank ? 0 : 1)) {
            soak->fault_done = soak->fault_swap = true;
            id->seq++;
        }
        return true;
    case SOAK_FAULT_LATE:
        soak->fault_done = soak_pool_damage(&soak->pool);
        return true;
    default:
        return true;
    }
}

static void corrupt_explain(enum soak_verdict verdict, bool gaps_intact, size_t bad_offset,
                            const struct soak_identity *found)
{
    if (verdict == SOAK_CORRUPT)
        fprintf(stderr, "ninja-soak:   the first wrong byte is at offset %zu\n", bad_offset);
    else if (!gaps_intact)
        fprintf(stderr, "ninja-soak:   bytes behind it or between its parts were written to\n");
    else
        fprintf(stderr,
                "ninja-soak:   it is message %" PRIu64 " of stream %s from %" PRIu32 " to %" PRIu32
                "\n",
                found->seq, soak_stream_name(found->stream), found->src, found->dst);
}

/* Judges 'size' packed bytes of which 'gaps_intact' tells whether nothing was written between. */
static void message_judge(struct soak *soak, unsigned char *data, size_t size,
                          const struct soak_identity *expected, bool gaps_intact)
{
    struct soak_identity found, claimed = *expected;
    enum soak_verdict verdict;
    size_t bad_offset = 0;

    if (soak->options->fault && !fault_make(soak, data, size, &claimed))
        return;
    verdict = soak_message_verify(data, size, expected, &found, &bad_offset);
    if (verdict == SOAK_CORRUPT || !gaps_intact || found.dst != (uint32_t)soak->rank ||
        found.src >= (uint32_t)soak->ranks || found.src != expected->src ||
        found.stream != expected->stream) {
        soak->counters.corrupt++;
        if (finding_print(soak, "CORRUPT", expected, size))
            corrupt_explain(verdict, gaps_intact, bad_offset, &found);
        /* Damaged, but there: not lost as well. */
        soak_tracker_note(tracker_of(soak, expected), expected->seq);
        return;
    }
    if (claimed.seq != expected->seq)
        found.seq = claimed.seq;
    arrival_note(soak, &found, expected, size);
}

void soak_receive_verify(struct soak *soak, struct soak_transfer *transfer)
{
    struct soak_identity expected = transfer->id;
    struct soak_buffer *packed;
    int bytes = 0;
    size_t size;
    bool intact;

    MPI_Get_count(&transfer->status, MPI_BYTE, &bytes);
    size = (size_t)bytes;
    if (transfer->message && soak_stream_is_wild(transfer->message->stream)) {
        expected.src = (uint32_t)transfer->status.MPI_SOURCE;
        expected.seq = soak->peers[expected.src].expected[expected.stream]++;
    } else if (size != transfer->size || transfer->status.MPI_SOURCE != (int)expected.src ||
               (transfer->message && transfer->status.MPI_TAG != transfer->message->tag)) {
        fprintf(stderr,
                "ninja-soak: expected %zu bytes from rank %" PRIu32
                ", got %zu bytes with tag %d from rank %d\n",
                transfer->size, expected.src, size, transfer->status.MPI_TAG,
                transfer->status.MPI_SOURCE);
        soak->counters.corrupt++;
        if (size > transfer->size)
            return;
    }
    if (transfer->layout == SOAK_CONTIGUOUS) {
        intact = soak_poison_intact(transfer->buffer->data + size, transfer->buffer->room - size);
        message_judge(soak, transfer->buffer->data, size, &expected, intact);
        return;
    }
    packed = soak_buffer_take(&soak->pool, size);
    intact = soak_layout_gather(transfer->layout, size, transfer->buffer->data, packed->data);
    message_judge(soak, packed->data, size, &expected, intact);
    soak_buffer_give(&soak->pool, packed);
}

void soak_lost_count(struct soak *soak)
{
    size_t entries = (size_t)soak->ranks * SOAK_STREAM_COUNT;
    uint64_t *sent = calloc(entries, sizeof *sent), *to_me = calloc(entries, sizeof *to_me), lost;
    struct soak_identity id;
    int rank, stream;

    if (!sent || !to_me) {
        fprintf(stderr, "ninja-soak: out of memory\n");
        exit(1);
    }
    for (rank = 0; rank < soak->ranks; rank++)
        for (stream = 0; stream < SOAK_STREAM_COUNT; stream++)
            sent[rank * SOAK_STREAM_COUNT + stream] = soak->peers[rank].sent[stream];
    MPI_Alltoall(sent, SOAK_STREAM_COUNT, MPI_UINT64_T, to_me, SOAK_STREAM_COUNT, MPI_UINT64_T,
                 soak->control);
    for (rank = 0; rank < soak->ranks; rank++) {
        for (stream = 0; stream < SOAK_STREAM_COUNT; stream++) {
            id = (struct soak_identity){.src = (uint32_t)rank, .stream = (uint32_t)stream};
            lost =
                soak_tracker_lost(tracker_of(soak, &id), to_me[rank * SOAK_STREAM_COUNT + stream]);
            soak->counters.lost += lost;
            if (lost > 0)
                fprintf(stderr,
                        "ninja-soak: LOST: rank %d: %" PRIu64
                        " messages of stream %s from rank %d\n",
                        soak->rank, lost, soak_stream_name((unsigned)stream), rank);
        }
    }
    free(sent);
    free(to_me);
}
