/*
 * An RDMA device that is not there.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "fake-verbs.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

struct region {
    struct ibv_mr mr;
    unsigned access;
    struct region *next;
};

struct request {
    struct request *next;
    uint32_t queue_pair;
    struct ibv_wc completion;
    /* An RDMA READ: */
    bool is_read;
    struct ibv_sge to;
    uint64_t from;
};

struct queue {
    struct request *head, **end;
};

/* The longest request. */
#define MESSAGE_MAX (1U << 30)

struct fake_verbs fake;

/* The reaper's thread stops and destroys queue pairs meanwhile. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct region *regions;
static struct queue pending = {.end = &pending.head}, completed = {.end = &completed.head};
static uint32_t serial;

static struct ibv_context device;
static struct ibv_pd domain = {.context = &device};
static struct ibv_comp_channel channel = {.context = &device, .fd = -1};
static struct ibv_cq completions = {.context = &device, .channel = &channel};
static struct ibv_srq receives = {.context = &device, .pd = &domain};

/* --- Memory ---------------------------------------------------------------------------------- */

bool fake_verbs_covers(uint64_t address, size_t size, uint32_t key, unsigned access)
{
    for (struct region *region = regions; region != NULL; region = region->next) {
        uint64_t begin = (uintptr_t)region->mr.addr;

        if (region->mr.lkey == key)
            return (region->access & access) == access && address >= begin &&
                   address - begin <= region->mr.length &&
                   size <= region->mr.length - (address - begin);
    }
    return false;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *address, size_t length, uint64_t iova,
                                unsigned access)
{
    struct region *region;

    REQUIRE(pd == &domain && address != NULL && length > 0);
    if (fake.refuse_region) {
        fake.refuse_region = false;
        errno = ENOMEM;
        return NULL;
    }
    region = calloc(1, sizeof(*region));
    region->mr = (struct ibv_mr){.context = &device, .pd = pd, .addr = address, .length = length};
    region->mr.lkey = region->mr.rkey = ++serial;
    region->access = access;
    region->next = regions;
    regions = region;
    fake.regions++;
    return &region->mr;
}

#undef ibv_reg_mr
struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *address, size_t length, int access)
{
    return ibv_reg_mr_iova2(pd, address, length, (uintptr_t)address, (unsigned)access);
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
    struct region **at = &regions;

    while (*at != NULL && &(*at)->mr != mr)
        at = &(*at)->next;
    REQUIRE(*at != NULL);
    *at = (*at)->next;
    fake.regions--;
    free(mr);
    return 0;
}

/* --- Requests -------------------------------------------------------------------------------- */

static void put(struct queue *queue, struct request *request)
{
    request->next = NULL;
    *queue->end = request;
    queue->end = &request->next;
}

static struct request *take(struct queue *queue)
{
    struct request *request = queue->head;

    queue->head = request->next;
    if (queue->head == NULL)
        queue->end = &queue->head;
    return request;
}

unsigned fake_verbs_pending(void)
{
    unsigned count = 0;

    pthread_mutex_lock(&lock);
    for (struct request *request = pending.head; request != NULL; request = request->next)
        count++;
    for (struct request *request = completed.head; request != NULL; request = request->next)
        count++;
    pthread_mutex_unlock(&lock);
    return count;
}

/* What the pieces of `request` hold, for the other end. */
static void send_message(const struct ibv_send_wr *request)
{
    unsigned char message[VERBS_BUFFER_SIZE];
    size_t size = 0;

    REQUIRE(request->num_sge >= 1 && request->num_sge <= 3);
    for (int i = 0; i < request->num_sge; i++) {
        const struct ibv_sge *piece = &request->sg_list[i];

        REQUIRE(piece->length <= sizeof(message) - size);
        REQUIRE((request->send_flags & IBV_SEND_INLINE) != 0 ||
                fake_verbs_covers(piece->addr, piece->length, piece->lkey, 0));
        memcpy(message + size, (void *)(uintptr_t)piece->addr, piece->length);
        size += piece->length;
    }
    REQUIRE((request->send_flags & IBV_SEND_INLINE) == 0 || size <= VERBS_INLINE_SIZE);
    fake.hear(fake.context, message, size);
}

static void post_one(const struct ibv_qp *queue_pair, const struct ibv_send_wr *wanted)
{
    struct request *request;

    REQUIRE(fake_verbs_pending() < VERBS_QUEUE_DEPTH);
    request = calloc(1, sizeof(*request));
    request->queue_pair = queue_pair->qp_num;
    request->completion.wr_id = wanted->wr_id;
    request->completion.qp_num = queue_pair->qp_num;
    if (wanted->opcode == IBV_WR_RDMA_READ) {
        REQUIRE(wanted->num_sge == 1);
        request->is_read = true;
        request->to = wanted->sg_list[0];
        request->from = wanted->wr.rdma.remote_addr;
    } else {
        REQUIRE(wanted->opcode == IBV_WR_SEND);
        send_message(wanted);
    }
    pthread_mutex_lock(&lock);
    put(&pending, request);
    pthread_mutex_unlock(&lock);
}

static int post_send(struct ibv_qp *queue_pair, struct ibv_send_wr *wanted,
                     struct ibv_send_wr **bad)
{
    REQUIRE(queue_pair->state == IBV_QPS_RTS);
    for (; wanted != NULL; wanted = wanted->next) {
        if (fake.refuse_post && fake.takes-- == 0) {
            fake.refuse_post = false;
            *bad = wanted;
            return ENOMEM;
        }
        post_one(queue_pair, wanted);
    }
    return 0;
}

static void complete_first(enum ibv_wc_status status)
{
    struct request *request = take(&pending);

    if (request->is_read && status == IBV_WC_SUCCESS) {
        const struct ibv_sge *to = &request->to;

        REQUIRE(fake_verbs_covers(to->addr, to->length, to->lkey, IBV_ACCESS_LOCAL_WRITE));
        fake.give(fake.context, request->from, (void *)(uintptr_t)to->addr, to->length);
    }
    request->completion.status = status;
    put(&completed, request);
}

void fake_verbs_complete(unsigned count, enum ibv_wc_status status)
{
    pthread_mutex_lock(&lock);
    while (count-- > 0 && pending.head != NULL)
        complete_first(status);
    pthread_mutex_unlock(&lock);
}

static int poll_cq(struct ibv_cq *queue, int count, struct ibv_wc *wc)
{
    int taken = 0;

    pthread_mutex_lock(&lock);
    while (taken < count && completed.head != NULL) {
        struct request *request = take(&completed);

        wc[taken++] = request->completion;
        free(request);
    }
    pthread_mutex_unlock(&lock);
    return taken;
}

void fake_verbs_reset(void)
{
    while (pending.head != NULL)
        free(take(&pending));
    while (completed.head != NULL)
        free(take(&completed));
}

/* --- Queue pairs ----------------------------------------------------------------------------- */

static int req_notify_cq(struct ibv_cq *queue, int solicited_only)
{
    return 0;
}

static int post_srq_recv(struct ibv_srq *queue, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
    return 0;
}

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *wanted)
{
    struct ibv_qp *queue_pair;

    if (fake.no_inline && wanted->cap.max_inline_data > 0) {
        errno = EINVAL;
        return NULL;
    }
    queue_pair = calloc(1, sizeof(*queue_pair));
    queue_pair->context = &device;
    queue_pair->pd = pd;
    queue_pair->qp_num = ++serial;
    fake.queue_pairs++;
    return queue_pair;
}

int ibv_modify_qp(struct ibv_qp *queue_pair, struct ibv_qp_attr *attributes, int mask)
{
    queue_pair->state = attributes->qp_state;
    if (attributes->qp_state != IBV_QPS_ERR)
        return 0;
    /* There is one queue pair with requests at a time. */
    pthread_mutex_lock(&lock);
    while (pending.head != NULL)
        complete_first(IBV_WC_WR_FLUSH_ERR);
    pthread_mutex_unlock(&lock);
    return 0;
}

int ibv_destroy_qp(struct ibv_qp *queue_pair)
{
    pthread_mutex_lock(&lock);
    fake.queue_pairs--;
    pthread_mutex_unlock(&lock);
    free(queue_pair);
    return 0;
}

/* --- The device ------------------------------------------------------------------------------ */

int ibv_destroy_srq(struct ibv_srq *queue)
{
    return 0;
}

int ibv_destroy_cq(struct ibv_cq *queue)
{
    return 0;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *unused)
{
    return 0;
}

int ibv_dealloc_pd(struct ibv_pd *pd)
{
    return 0;
}

int ibv_close_device(struct ibv_context *context)
{
    return 0;
}

#undef ibv_query_port
int ibv_query_port(struct ibv_context *context, uint8_t port,
                   struct _compat_ibv_port_attr *attributes)
{
    struct ibv_port_attr *port_attributes = (struct ibv_port_attr *)attributes;

    port_attributes->max_msg_sz = MESSAGE_MAX;
    port_attributes->gid_tbl_len = 1;
    port_attributes->link_layer = IBV_LINK_LAYER_ETHERNET;
    return 0;
}

int _ibv_query_gid_ex(struct ibv_context *context, uint32_t port, uint32_t index,
                      struct ibv_gid_entry *entry, uint32_t flags, size_t size)
{
    *entry = (struct ibv_gid_entry){.gid = fake.gid, .gid_type = IBV_GID_TYPE_ROCE_V2};
    return 0;
}

struct ninja_transport *fake_verbs_open(struct ninja_core *core)
{
    struct verbs_transport *transport = calloc(1, sizeof(*transport));

    device.async_fd = -1;
    device.ops.post_send = post_send;
    device.ops.poll_cq = poll_cq;
    device.ops.req_notify_cq = req_notify_cq;
    device.ops.post_srq_recv = post_srq_recv;
    transport->base = (struct ninja_transport){&ninja_transport_verbs, core, -1};
    transport->context = &device;
    transport->domain = &domain;
    transport->channel = &channel;
    transport->completions = &completions;
    transport->receives = &receives;
    transport->requests_max = 4096;
    transport->port.max_msg_sz = MESSAGE_MAX;
    transport->instance = ++serial;
    transport->reads_served = transport->reads_asked = 16;
    transport->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    transport->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    verbs_reaper_init(&transport->reaper);
    REQUIRE(verbs_registrations_create(transport) == 0);
    REQUIRE(verbs_memory_create(transport) == 0);
    ninja_verbs_device_opened();
    return &transport->base;
}
