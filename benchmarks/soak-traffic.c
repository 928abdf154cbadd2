/* Runs one batch of messages: posts, waits, verifies.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "soak.h"

#include <string.h>

/* Makes the type of 'blocks' stretches of a vector and a shorter last one. */
static MPI_Datatype vector_type(size_t size)
{
    size_t block = soak_layout_block(size), blocks = size / block, rest = size % block;
    int lengths[2] = {1, (int)rest};
    MPI_Aint places[2] = {0, (MPI_Aint)(2 * block * blocks)};
    MPI_Datatype types[2] = {MPI_DATATYPE_NULL, MPI_BYTE}, type;

    MPI_Type_vector((int)blocks, (int)block, (int)(2 * block), MPI_BYTE, &types[0]);
    if (rest == 0)
        return types[0];
    MPI_Type_create_struct(2, lengths, places, types, &type);
    MPI_Type_free(&types[0]);
    return type;
}

static MPI_Datatype indexed_type(size_t size)
{
    size_t count = soak_layout_segments(SOAK_INDEXED, size), i;
    int lengths[SOAK_INDEXED_BLOCKS];
    MPI_Aint places[SOAK_INDEXED_BLOCKS];
    struct soak_segment segment;
    MPI_Datatype type;

    for (i = 0; i < count; i++) {
        segment = soak_layout_segment(SOAK_INDEXED, size, i);
        lengths[i] = (int)segment.length;
        places[i] = (MPI_Aint)segment.offset;
    }
    MPI_Type_create_hindexed((int)count, lengths, places, MPI_BYTE, &type);
    return type;
}

void soak_type_make(struct soak_transfer *transfer)
{
    transfer->type = MPI_BYTE;
    transfer->count = (int)transfer->size;
    if (transfer->layout == SOAK_CONTIGUOUS || transfer->size == 0)
        return;
    transfer->type = transfer->layout == SOAK_VECTOR ? vector_type(transfer->size)
                                                     : indexed_type(transfer->size);
    transfer->count = 1;
    MPI_Type_commit(&transfer->type);
}

void soak_type_free(struct soak_transfer *transfer)
{
    if (transfer->type != MPI_BYTE)
        MPI_Type_free(&transfer->type);
}

/* Writes the message of a send into its buffer, in its layout. */
static void send_fill(struct soak *soak, struct soak_transfer *transfer)
{
    struct soak_buffer *packed;

    if (transfer->layout == SOAK_CONTIGUOUS) {
        soak_message_stamp(transfer->buffer->data, transfer->size, &transfer->id);
        return;
    }
    packed = soak_buffer_take(&soak->pool, transfer->size);
    soak_message_stamp(packed->data, transfer->size, &transfer->id);
    soak_layout_scatter(transfer->layout, transfer->size, packed->data, transfer->buffer->data);
    soak_buffer_give(&soak->pool, packed);
}

/* Prepares the next transfer of the batch for 'message'; its request is null as yet. */
static struct soak_transfer *transfer_add(struct soak *soak, const struct soak_message *message,
                                          bool sending)
{
    struct soak_transfer *transfer = &soak->transfers[soak->transfer_count];
    bool wild = soak_stream_is_wild(message->stream) && !sending;

    soak->requests[soak->transfer_count++] = MPI_REQUEST_NULL;
    *transfer = (struct soak_transfer){
        .message = message,
        .id = {.seed = soak->plan.seed,
               .src = message->src,
               .dst = message->dst,
               .stream = message->stream,
               .seq = message->seq},
        .size = wild ? SOAK_WILDCARD_MAX : message->size,
        .layout = sending ? message->send_layout : message->receive_layout,
        .sending = sending,
    };
    transfer->buffer =
        soak_buffer_take(&soak->pool, soak_layout_span(transfer->layout, transfer->size));
    soak_type_make(transfer);
    if (sending)
        send_fill(soak, transfer);
    return transfer;
}

/* Gives the buffer back at once, full of poison: if the transport still needed it, or still
 * writes to it, that shows. */
static void transfer_release(struct soak *soak, struct soak_transfer *transfer)
{
    soak_type_free(transfer);
    soak_buffer_give(&soak->pool, transfer->buffer);
    transfer->buffer = NULL;
}

/* Handles the end of a transfer. Wildcard receives are looked at later, in the order in which
 * they were posted, because that is the order that MPI promises. */
static void transfer_finish(struct soak *soak, struct soak_transfer *transfer)
{
    transfer->done = true;
    if (transfer->sending)
        soak->counters.sent++;
    else if (soak_stream_is_wild(transfer->message->stream)) {
        soak_work_done(soak);
        return;
    } else
        soak_receive_verify(soak, transfer);
    transfer_release(soak, transfer);
    soak_work_done(soak);
}

/* Numbers the messages in the order of the plan, in which both ends count alike; what a wildcard
 * will receive is not known yet. */
static void messages_number(struct soak *soak, struct soak_message *list, unsigned count)
{
    struct soak_message *end = list + count;

    for (; list < end; list++) {
        if (list->src == (uint32_t)soak->rank)
            list->seq = soak->peers[list->dst].sent[list->stream]++;
        else if (!soak_stream_is_wild(list->stream))
            list->seq = soak->peers[list->src].expected[list->stream]++;
    }
}

static int receive_source(const struct soak_message *message)
{
    return soak_stream_is_wild(message->stream) ? MPI_ANY_SOURCE : (int)message->src;
}

static int receive_tag(const struct soak_message *message)
{
    if (message->stream == SOAK_STREAM_ANY_TAG || message->stream == SOAK_STREAM_ANY)
        return MPI_ANY_TAG;
    return message->tag;
}

/* A rank may be up to SOAK_COLLECTIVE_EVERY batches ahead of another: what it sends then must not
 * match what a full wildcard of an earlier batch waits for, or two ranks might wait for each other
 * for ever. */
static MPI_Comm message_comm(const struct soak *soak, const struct soak_message *message)
{
    if (message->stream == SOAK_STREAM_ANY)
        return soak->any[soak->batch % SOAK_COLLECTIVE_EVERY];
    return soak->comm[message->stream];
}

static void receives_post(struct soak *soak, const struct soak_message *list, unsigned count)
{
    struct soak_transfer *transfer;
    unsigned i;

    soak->doing = "posting receives";
    for (i = 0; i < count; i++) {
        if (list[i].dst != (uint32_t)soak->rank || list[i].receive != SOAK_IRECV)
            continue;
        transfer = transfer_add(soak, &list[i], false);
        MPI_Irecv(transfer->buffer->data, transfer->count, transfer->type, receive_source(&list[i]),
                  receive_tag(&list[i]), message_comm(soak, &list[i]),
                  &soak->requests[soak->transfer_count - 1]);
    }
}

static void sends_start(struct soak *soak, const struct soak_message *list, unsigned count)
{
    struct soak_transfer *transfer;
    unsigned i;

    soak->doing = "starting sends";
    for (i = 0; i < count; i++) {
        if (list[i].src != (uint32_t)soak->rank ||
            (list[i].send != SOAK_ISEND && list[i].send != SOAK_ISSEND))
            continue;
        transfer = transfer_add(soak, &list[i], true);
        (list[i].send == SOAK_ISEND ? MPI_Isend : MPI_Issend)(
            transfer->buffer->data, transfer->count, transfer->type, (int)list[i].dst, list[i].tag,
            message_comm(soak, &list[i]), &soak->requests[soak->transfer_count - 1]);
    }
}

static void receive_blocking(struct soak *soak, const struct soak_message *message)
{
    struct soak_transfer *transfer = transfer_add(soak, message, false);
    MPI_Comm comm = message_comm(soak, message);
    MPI_Message found;

    soak->doing = message->receive == SOAK_RECV ? "in MPI_Recv" : "in MPI_Mprobe";
    if (message->receive == SOAK_RECV) {
        MPI_Recv(transfer->buffer->data, transfer->count, transfer->type, receive_source(message),
                 receive_tag(message), comm, &transfer->status);
    } else {
        MPI_Mprobe(receive_source(message), receive_tag(message), comm, &found, &transfer->status);
        MPI_Mrecv(transfer->buffer->data, transfer->count, transfer->type, &found,
                  &transfer->status);
    }
    transfer_finish(soak, transfer);
}

/* The blocking ones with names, in the order of the plan: as that is the same in all ranks, and
 * everything else was started before, there is always one on which both ends are working. */
static void blocking_run(struct soak *soak, const struct soak_message *list, unsigned count)
{
    struct soak_transfer *transfer;
    unsigned i;

    for (i = 0; i < count; i++) {
        if (soak_stream_is_wild(list[i].stream))
            continue;
        if (list[i].src == (uint32_t)soak->rank && list[i].send >= SOAK_SEND) {
            transfer = transfer_add(soak, &list[i], true);
            soak->doing = list[i].send == SOAK_SEND ? "in MPI_Send" : "in MPI_Ssend";
            (list[i].send == SOAK_SEND ? MPI_Send : MPI_Ssend)(
                transfer->buffer->data, transfer->count, transfer->type, (int)list[i].dst,
                list[i].tag, message_comm(soak, &list[i]));
            transfer_finish(soak, transfer);
        } else if (list[i].dst == (uint32_t)soak->rank && list[i].receive != SOAK_IRECV) {
            receive_blocking(soak, &list[i]);
        }
    }
}

static void wildcards_receive(struct soak *soak, const struct soak_message *list, unsigned count)
{
    unsigned i;

    for (i = 0; i < count; i++)
        if (list[i].dst == (uint32_t)soak->rank && soak_stream_is_wild(list[i].stream) &&
            list[i].receive != SOAK_IRECV)
            receive_blocking(soak, &list[i]);
}

static void wait_testsome(struct soak *soak)
{
    int done, i;

    do {
        MPI_Testsome((int)soak->transfer_count, soak->requests, &done, soak->indices,
                     soak->statuses);
        for (i = 0; done != MPI_UNDEFINED && i < done; i++) {
            soak->transfers[soak->indices[i]].status = soak->statuses[i];
            transfer_finish(soak, &soak->transfers[soak->indices[i]]);
        }
    } while (done != MPI_UNDEFINED);
}

static void wait_any(struct soak *soak)
{
    MPI_Status status;
    int index;

    for (;;) {
        MPI_Waitany((int)soak->transfer_count, soak->requests, &index, &status);
        if (index == MPI_UNDEFINED)
            return;
        soak->transfers[index].status = status;
        transfer_finish(soak, &soak->transfers[index]);
    }
}

static void wait_all(struct soak *soak)
{
    unsigned i;

    MPI_Waitall((int)soak->transfer_count, soak->requests, soak->statuses);
    for (i = 0; i < soak->transfer_count; i++) {
        if (soak->transfers[i].done)
            continue;
        soak->transfers[i].status = soak->statuses[i];
        transfer_finish(soak, &soak->transfers[i]);
    }
}

static void wildcards_verify(struct soak *soak)
{
    struct soak_transfer *transfer;
    unsigned i;

    for (i = 0; i < soak->transfer_count; i++) {
        transfer = &soak->transfers[i];
        if (transfer->sending || !soak_stream_is_wild(transfer->message->stream))
            continue;
        soak_receive_verify(soak, transfer);
        transfer_release(soak, transfer);
    }
}

void soak_batch_run(struct soak *soak)
{
    unsigned count = soak_plan_batch(&soak->plan, soak->batch, soak->messages);
    bool persistent = soak_plan_persistent(&soak->plan, soak->batch);

    soak->transfer_count = 0;
    messages_number(soak, soak->messages, count);
    receives_post(soak, soak->messages, count);
    if (persistent)
        soak_channels_start(soak);
    sends_start(soak, soak->messages, count);
    blocking_run(soak, soak->messages, count);
    wildcards_receive(soak, soak->messages, count);
    soak->doing = "waiting for non-blocking transfers";
    switch (soak_plan_wait(&soak->plan, soak->batch)) {
    case SOAK_TESTSOME:
        wait_testsome(soak);
        break;
    case SOAK_WAITANY:
        wait_any(soak);
        break;
    default:
        wait_all(soak);
    }
    if (persistent)
        soak_channels_finish(soak);
    wildcards_verify(soak);
}
