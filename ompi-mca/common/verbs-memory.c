/*
 * The verbs transport's buffers: one registered piece of memory, from which messages are sent and
 * into which they arrive.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core.h"
#include "transport-verbs.h"

/* Locked memory is dear in small guests, and software needs no deep queues. */
#define RECEIVES          512U
#define RECEIVES_SOFTWARE 256U
#define SENDS             128U

unsigned char *verbs_receive_buffer(const struct verbs_transport *transport, unsigned index)
{
    return transport->memory + (size_t)index * VERBS_BUFFER_SIZE;
}

unsigned char *verbs_send_buffer(const struct verbs_transport *transport, unsigned index)
{
    return verbs_receive_buffer(transport, transport->receive_count + index);
}

void verbs_receive_again(struct verbs_transport *transport, unsigned index)
{
    struct ibv_recv_wr *request = &transport->slots[index].request;

    request->next = NULL;
    *transport->repost_end = request;
    transport->repost_end = &request->next;
    transport->repost_count++;
}

void verbs_receives_post(struct verbs_transport *transport)
{
    struct ibv_recv_wr *bad;

    if (transport->repost == NULL)
        return;
    /* It fails on a dead device only, which is noticed elsewhere. */
    (void)ibv_post_srq_recv(transport->receives, transport->repost, &bad);
    transport->repost = NULL;
    transport->repost_end = &transport->repost;
    transport->repost_count = 0;
}

static void fill_slot(struct verbs_transport *transport, unsigned index)
{
    struct verbs_receive_slot *slot = &transport->slots[index];

    slot->piece.addr = (uintptr_t)verbs_receive_buffer(transport, index);
    slot->piece.length = VERBS_BUFFER_SIZE;
    slot->piece.lkey = transport->region->lkey;
    /* The lowest bit tells receive requests from operations, which are pointers. */
    slot->request.wr_id = (uint64_t)index << 1 | 1;
    slot->request.sg_list = &slot->piece;
    slot->request.num_sge = 1;
}

int verbs_memory_create(struct verbs_transport *transport)
{
    unsigned receives = transport->device.soft_roce ? RECEIVES_SOFTWARE : RECEIVES;

    transport->receive_count = receives;
    transport->send_count = SENDS;
    transport->memory_size = (size_t)(receives + SENDS) * VERBS_BUFFER_SIZE;
    transport->memory = mmap(NULL, transport->memory_size, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (transport->memory == MAP_FAILED) {
        transport->memory = NULL;
        return -errno;
    }
    transport->region = ibv_reg_mr(transport->domain, transport->memory, transport->memory_size,
                                   IBV_ACCESS_LOCAL_WRITE);
    if (transport->region == NULL)
        return -errno;
    transport->slots = calloc(receives, sizeof(*transport->slots));
    transport->free_sends = calloc(SENDS, sizeof(*transport->free_sends));
    if (transport->slots == NULL || transport->free_sends == NULL)
        return -ENOMEM;
    transport->repost_end = &transport->repost;
    for (unsigned i = 0; i < receives; i++) {
        fill_slot(transport, i);
        verbs_receive_again(transport, i);
    }
    verbs_receives_post(transport);
    for (unsigned i = 0; i < SENDS; i++)
        transport->free_sends[transport->free_send_count++] = (int)(SENDS - 1 - i);
    return 0;
}

void verbs_memory_destroy(struct verbs_transport *transport)
{
    if (transport->region != NULL)
        ibv_dereg_mr(transport->region);
    if (transport->memory != NULL)
        munmap(transport->memory, transport->memory_size);
    free(transport->slots);
    free(transport->free_sends);
}
