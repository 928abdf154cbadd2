/*
 * The verbs transport's reads of exposed memory: a long message is fetched from its sender's memory
 * in pieces, several at a time, without any frame.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core.h"
#include "transport-verbs.h"

/*
 * A read is cut into pieces, so that a path that is to be left need not wait for all of it. Not
 * into more than that: a request costs a system call with soft-RoCE, which must wait while packets
 * come in, and between two pieces the sender may be found asleep.
 */
#define PIECE (4U * 1024U * 1024U)

/* What a path has under way at a time: so many pieces, unless they have so many bytes. */
#define PIECES_AT_A_TIME 8U
#define BYTES_AT_A_TIME  (2U * PIECE)

/* --- Claims ---------------------------------------------------------------------------------- */

/*
 * Registers memory for a whole message, which may be long and wait long. All such claims together
 * stay within what may be kept: what goes beyond it travels in frames, whose pieces are registered
 * when it is their turn. Returns NULL if it is not to be had.
 */
static struct verbs_registration *claim(struct verbs_transport *transport, const void *at,
                                        size_t length, enum verbs_use use)
{
    struct verbs_registration *registration;

    if (verbs_device_may_be_going(transport) ||
        transport->claimed > transport->registrations.limit ||
        length > transport->registrations.limit - transport->claimed)
        return NULL;
    registration = verbs_register(transport, at, length, use);
    if (registration != NULL)
        transport->claimed += length;
    return registration;
}

/* --- The sender's half: memory is exposed ---------------------------------------------------- */

bool verbs_expose(struct ninja_transport *base, const void *at, struct ninja_exposure *exposure)
{
    struct verbs_transport *transport = (struct verbs_transport *)base;
    struct verbs_registration *registration =
        claim(transport, at, exposure->length, VERBS_TO_BE_READ);

    if (registration == NULL)
        return false;
    exposure->key.instance = transport->instance;
    exposure->key.key = registration->region->rkey;
    exposure->registration = registration;
    return true;
}

void verbs_conceal(struct ninja_transport *base, struct ninja_exposure *exposure)
{
    struct verbs_transport *transport = (struct verbs_transport *)base;

    transport->claimed -= exposure->length;
    verbs_unregister(transport, exposure->registration);
}

/* --- The receiver's half: it is read --------------------------------------------------------- */

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The device's own limit for one request is 1 GiB and more in hardware, 8 MiB with soft-RoCE. */
static size_t piece_size(const struct verbs_transport *transport)
{
    return least(transport->port.max_msg_sz, PIECE);
}

static bool has_enough(const struct verbs_path *vp)
{
    return vp->pieces >= PIECES_AT_A_TIME || vp->piece_bytes >= BYTES_AT_A_TIME;
}

/* Asks for the next pieces of `get`, `most` at most, all at once. */
static void post_pieces(struct verbs_operation *get, unsigned most)
{
    struct verbs_path *vp = get->owner;
    struct ibv_send_wr requests[PIECES_AT_A_TIME];
    struct ibv_sge pieces[PIECES_AT_A_TIME];
    size_t most_bytes = piece_size(vp->transport);
    unsigned count = 0;

    for (; count < most && get->asked < get->length && !has_enough(vp); count++) {
        pieces[count] = (struct ibv_sge){
            .addr = (uintptr_t)get->to + get->asked,
            .length = (uint32_t)least(get->length - get->asked, most_bytes),
            .lkey = get->registration->region->lkey,
        };
        requests[count] = (struct ibv_send_wr){
            .sg_list = &pieces[count],
            .num_sge = 1,
            .opcode = IBV_WR_RDMA_READ,
            .wr.rdma = {.remote_addr = get->remote + get->asked, .rkey = get->key},
        };
        if (count > 0)
            requests[count - 1].next = &requests[count];
        get->asked += pieces[count].length;
        get->reads++;
        vp->pieces++;
        vp->piece_bytes += pieces[count].length;
    }
    verbs_request_post(get, requests);
}

static void take_first(struct verbs_path *vp)
{
    vp->gets_head = vp->gets_head->next_waiting;
}

void verbs_gets_post(struct verbs_path *vp)
{
    struct verbs_operation *get;

    while (vp->state == VERBS_PATH_LIVE && !vp->failed && (get = vp->gets_head) != NULL) {
        if (vp->path->state != NINJA_PATH_OPEN) {
            /* What is left is fetched over the path that the link has now. */
            take_first(vp);
            get->length = get->asked;
            if (get->reads == 0)
                verbs_get_end(get);
            continue;
        }
        if (has_enough(vp) || !verbs_has_room(vp, 1))
            return;
        post_pieces(get, verbs_has_room(vp, PIECES_AT_A_TIME) ? PIECES_AT_A_TIME : 1);
        if (get->asked == get->length)
            take_first(vp);
    }
}

void verbs_get_done(struct verbs_operation *get)
{
    struct verbs_path *vp = get->owner;
    size_t size = least(get->length - get->got, piece_size(vp->transport));

    get->reads--;
    vp->pieces--;
    if (vp->failed || vp->state != VERBS_PATH_LIVE)
        return; /* ends with the path: the device may still write */
    vp->piece_bytes -= size;
    get->got += size;
    if (get->got == get->length)
        verbs_get_end(get);
}

void verbs_get_end(struct verbs_operation *get)
{
    struct ninja_path *path = get->owner->path;
    uint64_t cookie = get->cookie;
    size_t got = get->got;

    get->owner->transport->claimed -= get->claimed;
    verbs_operation_free(get);
    ninja_path_got(path, cookie, got);
}

bool verbs_path_get(struct ninja_path *path, uint64_t cookie, const struct ninja_key *key,
                    void *local, uint64_t remote, size_t length)
{
    struct verbs_path *vp = path->transport_data;
    struct verbs_operation *get;

    if (path->state != NINJA_PATH_OPEN || vp->failed || key->instance != vp->peer_instance)
        return false;
    get = verbs_operation_new(vp, VERBS_GET);
    if (get == NULL)
        return false;
    get->registration = claim(vp->transport, local, length, VERBS_TO_BE_WRITTEN);
    if (get->registration == NULL) {
        verbs_operation_free(get);
        return false;
    }
    get->cookie = cookie;
    get->key = key->key;
    get->to = local;
    get->remote = remote;
    get->length = get->claimed = length;
    get->asked = get->got = 0;
    get->next_waiting = NULL;
    if (vp->gets_head == NULL)
        vp->gets_head = get;
    else
        vp->gets_tail->next_waiting = get;
    vp->gets_tail = get;
    verbs_pump(vp);
    return true;
}
