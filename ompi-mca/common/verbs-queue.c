/*
 * The verbs transport's queue pairs: made, connected, stopped, destroyed.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "core.h"
#include "transport-verbs.h"

/*
 * A packet that is not acknowledged is sent again after 4.096 us * 2^RETRY_TIME (1.07 s), and the
 * path fails after RETRIES of these: some 4 s, in which the lifeline would long have done the work.
 * Not sooner: an RDMA READ that waits behind another on a slow device is taken for lost, and all of
 * it is sent again. 7 retries mean "for ever" to soft-RoCE.
 */
#define RETRY_TIME 18
#define RETRIES    3

/* A receiver without buffers is asked again after 0.64 ms, for ever: it may be stopped. */
#define NO_BUFFER_TIME    12
#define NO_BUFFER_RETRIES 7

#define HOP_LIMIT 64

int verbs_queue_create(struct verbs_path *vp)
{
    struct verbs_transport *transport = vp->transport;
    struct ibv_qp_init_attr wanted = {
        .send_cq = transport->completions,
        .recv_cq = transport->completions,
        .srq = transport->receives,
        .cap = {.max_send_wr = VERBS_QUEUE_DEPTH,
                .max_send_sge = 3,
                .max_inline_data = VERBS_INLINE_SIZE},
        .qp_type = IBV_QPT_RC,
        .sq_sig_all = 1,
    };
    struct ibv_qp_attr attributes = {
        .qp_state = IBV_QPS_INIT,
        .pkey_index = 0,
        .port_num = (uint8_t)transport->device.port,
        .qp_access_flags = IBV_ACCESS_REMOTE_READ,
    };
    int rc;

    vp->queue_pair = ibv_create_qp(transport->domain, &wanted);
    if (vp->queue_pair == NULL) {
        /* A device that cannot take data with the request may refuse. */
        wanted.cap.max_inline_data = 0;
        vp->queue_pair = ibv_create_qp(transport->domain, &wanted);
    }
    if (vp->queue_pair == NULL)
        return errno > 0 ? -errno : -ENOMEM;
    vp->number = vp->queue_pair->qp_num;
    vp->inline_size = wanted.cap.max_inline_data;
    (void)!getrandom(&vp->first_packet, sizeof(vp->first_packet), 0);
    vp->first_packet &= 0xffffff;
    rc = ibv_modify_qp(vp->queue_pair, &attributes,
                       IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
    if (rc != 0) {
        verbs_queue_destroy(vp);
        return -rc;
    }
    return 0;
}

void verbs_queue_address(const struct verbs_path *vp, struct verbs_address *address)
{
    const struct verbs_transport *transport = vp->transport;

    *address = (struct verbs_address){
        .magic = VERBS_ADDRESS_MAGIC,
        .queue_pair = vp->number,
        .first_packet = vp->first_packet,
        .lid = transport->port.lid,
        .mtu = (uint8_t)transport->port.active_mtu,
        .ethernet = transport->port.link_layer == IBV_LINK_LAYER_ETHERNET,
        .reads = transport->reads_served,
        .instance = transport->instance,
        .gid = transport->gid,
    };
}

static uint8_t smaller(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

/* The way to the peer; over InfiniBand the GID is needed only between subnets. */
static struct ibv_ah_attr way_to(const struct verbs_transport *transport,
                                 const struct verbs_address *peer)
{
    struct ibv_ah_attr way = {
        .dlid = peer->lid,
        .port_num = (uint8_t)transport->device.port,
        .is_global =
            peer->ethernet || peer->gid.global.subnet_prefix != transport->gid.global.subnet_prefix,
    };

    if (way.is_global) {
        way.grh.dgid = peer->gid;
        way.grh.sgid_index = transport->gid_index;
        way.grh.hop_limit = HOP_LIMIT;
    }
    return way;
}

int verbs_queue_connect(struct verbs_path *vp, const struct verbs_address *peer)
{
    struct verbs_transport *transport = vp->transport;
    struct ibv_qp_attr attributes = {
        .qp_state = IBV_QPS_RTR,
        .path_mtu = (enum ibv_mtu)smaller((uint8_t)transport->port.active_mtu, peer->mtu),
        .dest_qp_num = peer->queue_pair,
        .rq_psn = peer->first_packet,
        .max_dest_rd_atomic = transport->reads_served,
        .min_rnr_timer = NO_BUFFER_TIME,
        .ah_attr = way_to(transport, peer),
    };
    int rc;

    rc = ibv_modify_qp(vp->queue_pair, &attributes,
                       IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
                           IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
    if (rc != 0)
        return -rc;
    attributes = (struct ibv_qp_attr){
        .qp_state = IBV_QPS_RTS,
        .timeout = RETRY_TIME,
        .retry_cnt = RETRIES,
        .rnr_retry = NO_BUFFER_RETRIES,
        .sq_psn = vp->first_packet,
        .max_rd_atomic = smaller(transport->reads_asked, peer->reads),
    };
    rc = ibv_modify_qp(vp->queue_pair, &attributes,
                       IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                           IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
    return -rc;
}

void verbs_queue_stop(struct verbs_path *vp)
{
    struct ibv_qp_attr attributes = {.qp_state = IBV_QPS_ERR};

    (void)ibv_modify_qp(vp->queue_pair, &attributes, IBV_QP_STATE);
}

void verbs_queue_destroy(struct verbs_path *vp)
{
    int rc = vp->queue_pair != NULL ? ibv_destroy_qp(vp->queue_pair) : 0;

    if (rc != 0)
        ninja_log(vp->transport->base.core, 1, "%s: a queue pair could not be destroyed: %s",
                  vp->transport->device_name, strerror(rc));
    vp->queue_pair = NULL;
}

/* --- GIDs ------------------------------------------------------------------------------------ */

/* How good a GID is as our name towards peers: those over IPv4 can be routed. 0: of no use. */
static int gid_rank(const struct ibv_gid_entry *entry, bool ethernet)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (!ethernet)
        return 1;
    if (entry->gid_type != IBV_GID_TYPE_ROCE_V2)
        return entry->gid_type == IBV_GID_TYPE_ROCE_V1 ? 1 : 0;
    return memcmp(entry->gid.raw, mapped, sizeof(mapped)) == 0 ? 3 : 2;
}

int verbs_gid_choose(struct verbs_transport *transport, char *why, size_t why_size)
{
    bool ethernet = transport->port.link_layer == IBV_LINK_LAYER_ETHERNET;
    int best = 0;

    for (int i = 0; i < transport->port.gid_tbl_len && i < 256; i++) {
        struct ibv_gid_entry entry;
        int rank;

        /* Fails for empty entries. */
        if (ibv_query_gid_ex(transport->context, transport->device.port, (uint32_t)i, &entry, 0) !=
            0)
            continue;
        rank = gid_rank(&entry, ethernet);
        if (rank <= best)
            continue;
        best = rank;
        transport->gid = entry.gid;
        transport->gid_index = (uint8_t)i;
    }
    if (best > 0)
        return 0;
    snprintf(why, why_size,
             "%s has no GID on port %u: it needs an address on its network interface",
             transport->device_name, transport->device.port);
    return -EADDRNOTAVAIL;
}

int verbs_port_renew(struct verbs_transport *transport)
{
    struct ibv_port_attr port;
    char why[160];
    int rc;

    if (!transport->port_changed)
        return 0;
    rc = ibv_query_port(transport->context, (uint8_t)transport->device.port, &port);
    if (rc != 0)
        return -rc;
    transport->port = port;
    rc = verbs_gid_choose(transport, why, sizeof(why));
    if (rc != 0) {
        ninja_log(transport->base.core, 1, "%s", why);
        return rc;
    }
    transport->port_changed = false;
    return 0;
}
