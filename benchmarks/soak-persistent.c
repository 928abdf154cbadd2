/* Persistent requests round the ring of ranks, started again and again on the same buffers.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "soak.h"

#include <stdio.h>
#include <string.h>

static const size_t channel_sizes[SOAK_CHANNELS] = {64, 20000, 300000};

static void transfer_open(struct soak *soak, struct soak_transfer *transfer, size_t size, int src,
                          int dst)
{
    transfer->size = size;
    transfer->layout = SOAK_CONTIGUOUS;
    transfer->id = (struct soak_identity){.seed = soak->plan.seed,
                                          .src = (uint32_t)src,
                                          .dst = (uint32_t)dst,
                                          .stream = SOAK_STREAM_PERSISTENT};
    transfer->buffer = soak_buffer_take(&soak->pool, size);
    transfer->sending = src == soak->rank;
}

void soak_channels_open(struct soak *soak)
{
    int next = (soak->rank + 1) % soak->ranks, previous, i;
    struct soak_channel *channel;
    size_t size;

    previous = (soak->rank + soak->ranks - 1) % soak->ranks;
    for (i = 0; i < SOAK_CHANNELS; i++) {
        channel = &soak->channels[i];
        size = channel_sizes[i] < soak->plan.max_size ? channel_sizes[i] : soak->plan.max_size;
        transfer_open(soak, &channel->send, size, soak->rank, next);
        transfer_open(soak, &channel->receive, size, previous, soak->rank);
        MPI_Recv_init(channel->receive.buffer->data, (int)size, MPI_BYTE, previous, i,
                      soak->comm[SOAK_STREAM_PERSISTENT], &channel->requests[0]);
        MPI_Send_init(channel->send.buffer->data, (int)size, MPI_BYTE, next, i,
                      soak->comm[SOAK_STREAM_PERSISTENT], &channel->requests[1]);
    }
}

/* Checks that nobody wrote to the buffer since it was poisoned. */
static void channel_check(struct soak *soak, const struct soak_transfer *transfer)
{
    if (soak_poison_intact(transfer->buffer->data, transfer->buffer->room))
        return;
    soak->pool.overwritten++;
    fprintf(stderr,
            "ninja-soak: OVERWRITTEN: the %zu bytes of a persistent %s were written to after it "
            "was complete\n",
            transfer->size, transfer->sending ? "send" : "receive");
    memset(transfer->buffer->data, SOAK_POISON, transfer->buffer->room);
}

void soak_channels_start(struct soak *soak)
{
    struct soak_channel *channel;
    struct soak_peer *next, *previous;
    int i;

    soak->doing = "starting persistent requests";
    for (i = 0; i < SOAK_CHANNELS; i++) {
        channel = &soak->channels[i];
        next = &soak->peers[channel->send.id.dst];
        previous = &soak->peers[channel->receive.id.src];
        channel_check(soak, &channel->send);
        channel_check(soak, &channel->receive);
        channel->send.id.seq = next->sent[SOAK_STREAM_PERSISTENT]++;
        channel->receive.id.seq = previous->expected[SOAK_STREAM_PERSISTENT]++;
        soak_message_stamp(channel->send.buffer->data, channel->send.size, &channel->send.id);
        MPI_Startall(2, channel->requests);
    }
}

void soak_channels_finish(struct soak *soak)
{
    struct soak_channel *channel;
    MPI_Status statuses[2];
    int i;

    soak->doing = "waiting for persistent requests";
    for (i = 0; i < SOAK_CHANNELS; i++) {
        channel = &soak->channels[i];
        MPI_Waitall(2, channel->requests, statuses);
        channel->receive.status = statuses[0];
        soak_receive_verify(soak, &channel->receive);
        soak->counters.sent++;
        memset(channel->send.buffer->data, SOAK_POISON, channel->send.buffer->room);
        memset(channel->receive.buffer->data, SOAK_POISON, channel->receive.buffer->room);
        soak_work_done(soak);
    }
}

void soak_channels_close(struct soak *soak)
{
    struct soak_channel *channel;
    int i;

    for (i = 0; i < SOAK_CHANNELS; i++) {
        channel = &soak->channels[i];
        channel_check(soak, &channel->send);
        channel_check(soak, &channel->receive);
        MPI_Request_free(&channel->requests[0]);
        MPI_Request_free(&channel->requests[1]);
        soak_buffer_give(&soak->pool, channel->send.buffer);
        soak_buffer_give(&soak->pool, channel->receive.buffer);
    }
}
