/*
 * Inside the verbs transport: reliable connections of libibverbs, one queue pair for each path; one
 * completion queue and one receive queue serve them all.
 *
 * A frame travels in parts that fit the receive buffers, copied on both sides; a long one is
 * offered instead, and the receiver reads it from the sender's memory (rendezvous):
 *
 *   FRAME header, first bytes    OFFER header, where it lies
 *   PART  next bytes                        <-- RDMA READ
 *   ...                                     <-- DONE
 *
 * Most long messages of the upper layer are no frames at all: the sender exposes them, and the
 * receiver reads them when it wants them (verbs-get.c).
 *
 * When ibv_destroy_qp() has returned, nothing touches the memory of a path's frames and landings
 * any more. But it can take long, many seconds when the kernel waits for a device that vanished, so
 * it is left to a thread of its own, the reaper: the link goes on over another path meanwhile.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_TRANSPORT_VERBS_H
#define NINJA_TRANSPORT_VERBS_H

#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport.h"
#include "verbs-device.h"

/* --- On the wire ----------------------------------------------------------------------------- */

enum verbs_kind { VERBS_FRAME = 1, VERBS_PART, VERBS_OFFER, VERBS_DONE, VERBS_KINDS };

/* Every message begins with this; FRAME and OFFER go on with the frame's header. Behind a whole
 * FRAME there may be others, each a header with all its payload. */
struct verbs_header {
    uint8_t kind;     /* enum verbs_kind */
    uint8_t segments; /* OFFER: number of struct verbs_segment after the frame's header */
    uint16_t padding;
    uint32_t ticket; /* OFFER, DONE: names the offer at its sender */
};
_Static_assert(sizeof(struct verbs_header) == 8, "the header has no padding");

/* A piece of an offered payload in the sender's memory. */
struct verbs_segment {
    uint64_t address;
    uint32_t length;
    uint32_t key;
};
#define VERBS_SEGMENTS_MAX 2

/* What a peer must know of a queue pair. */
struct verbs_address {
    uint32_t magic;
    uint32_t queue_pair;
    uint32_t first_packet; /* packet sequence number that it will begin with */
    uint16_t lid;          /* InfiniBand only */
    uint8_t mtu;           /* enum ibv_mtu */
    uint8_t ethernet;      /* 1: RoCE */
    uint8_t reads;         /* RDMA READs that it can serve at a time */
    uint8_t padding[3];
    uint32_t instance; /* of its transport: keys of memory are good for one */
    union ibv_gid gid;
};
#define VERBS_ADDRESS_MAGIC 0x4e4a5234U /* "NJR4" */

/* --- Sizes ----------------------------------------------------------------------------------- */

/* Of a buffer, for one message: 16 KiB of a user and all headers. */
#define VERBS_BUFFER_SIZE (16U * 1024U + 256U)

/* Payload of a frame up to which it may wait for others to share a message: of longer ones only few
 * go into one, and the device had better begin with the first. */
#define VERBS_GATHER_MAX 2048U

/* Payload of a frame above which it is offered instead of sent in parts. */
#define VERBS_OFFER_ABOVE (192U * 1024U)

/* Sends in flight on a path: enough to fill a fabric, little enough to drain at once. */
#define VERBS_PATH_SENDS 32

/* Offers that a path has outstanding; the peer reads as many at a time. */
#define VERBS_PATH_OFFERS 4

/* Room in a send queue: the sends, what answers offers, and some pieces of GETs. */
#define VERBS_QUEUE_DEPTH (VERBS_PATH_SENDS + 8 * VERBS_PATH_OFFERS)

/* Messages up to this size are handed to the device with the request, if it can do that. */
#define VERBS_INLINE_SIZE 256U

/* --- In memory ------------------------------------------------------------------------------- */

enum verbs_path_state {
    VERBS_PATH_PREPARED, /* the queue pair exists, the peer's is not known */
    VERBS_PATH_LIVE,
    VERBS_PATH_CLOSING /* the reaper has it */
};

/* What is left to be done for a path in progress(), where nothing else is on the call stack. */
enum verbs_task {
    VERBS_TASK_FAIL = 1, /* tell the core that the path is broken */
    VERBS_TASK_CLOSE = 2
};

struct verbs_path;
struct verbs_transport;

/* What a registration is for. */
enum verbs_use { VERBS_TO_BE_READ, VERBS_TO_BE_WRITTEN };

/* Memory of the application that the device may use. */
struct verbs_registration {
    uintptr_t start, end; /* up to, not including */
    struct ibv_mr *region;
    unsigned uses; /* messages that need it now */
    bool writable;
    bool kept;        /* in the table */
    uint64_t used_at; /* for the choice of the oldest */
    struct verbs_registration *next_put_off;
};

/* How many are kept at most: their end is part of each release. */
#define VERBS_KEPT_MAX 256U

struct verbs_registrations {
    struct verbs_registration **kept; /* by address */
    unsigned count;
    size_t bytes, limit;                /* of those in the table */
    uint64_t clock;                     /* calls of verbs_register() */
    struct verbs_registration *put_off; /* to be ended once the device is no longer going */
};

/* A request in a send queue, or one that waits for room there. */
struct verbs_operation {
    struct verbs_operation *next, *previous; /* of its path; `next` also in the list of free ones */
    struct verbs_operation *next_waiting;
    struct verbs_path *owner;
    enum { VERBS_SEND, VERBS_READ, VERBS_ANSWER, VERBS_GET } kind; /* ANSWER: a DONE */
    int buffer;     /* SEND: index of the buffer, or -1 */
    unsigned reads; /* READ, GET: requests not completed yet */
    /* READ and ANSWER: */
    uint32_t ticket;
    unsigned segments;
    struct verbs_segment segment[VERBS_SEGMENTS_MAX];
    struct ninja_frame_header header;
    unsigned char *ours; /* `to`, ours to free; NULL: it is placed */
    /* READ and GET: */
    struct verbs_registration *registration;
    unsigned char *to; /* where the payload goes */
    /* GET: */
    uint64_t cookie, remote;
    uint32_t key;
    size_t length, asked, got; /* in all; of it in requests; of it at its place */
    size_t claimed;            /* of what the transport has claimed */
};

/* A frame of ours that the peer was offered and has not read yet. */
struct verbs_ticket {
    struct verbs_path *owner; /* NULL: free */
    struct ninja_frame *frame;
    struct verbs_registration *registration[VERBS_SEGMENTS_MAX];
    uint16_t use;       /* which use of this entry is meant: the upper half of its name */
    uint16_t next_free; /* index + 1 */
};

/* A frame that has to wait: for memory (landing WAIT), or for the landing that is being written. */
struct verbs_held {
    struct verbs_held *next;
    struct ninja_frame_header header;
    unsigned segments; /* 0: the payload is here */
    uint32_t ticket;
    struct verbs_segment segment[VERBS_SEGMENTS_MAX];
    unsigned char payload[];
};

/* The frame whose parts arrive. */
struct verbs_partial {
    enum {
        VERBS_NO_PARTS,
        VERBS_PARTS_COPY,
        VERBS_PARTS_PLACE,
        VERBS_PARTS_DROP,
        VERBS_PARTS_HOLD
    } how;
    struct ninja_frame_header header;
    unsigned char *to;       /* NULL: PARTS_DROP */
    struct verbs_held *held; /* owns `to` for COPY and HOLD */
    uint32_t have;
};

struct verbs_path {
    struct verbs_path *next, *previous; /* all paths of the transport */
    struct verbs_path *next_in_bucket;  /* by number of the queue pair */
    struct verbs_path *next_task;
    unsigned tasks; /* enum verbs_task; not 0: in the transport's list of tasks */
    struct verbs_transport *transport;
    struct ninja_path *path;           /* NULL: it was forgotten, and the reaper has what is left */
    struct ninja_fabric *forgotten_of; /* then: whose path it was */
    struct ibv_qp *queue_pair;         /* CLOSING: the reaper's */
    uint32_t number;                   /* of the queue pair */
    uint32_t inline_size;              /* what the queue pair takes with a request */
    uint32_t first_packet;
    enum verbs_path_state state;
    struct verbs_operation *operations;
    struct verbs_operation *waiting_head, *waiting_tail; /* READ and ANSWER without room */
    struct verbs_operation *gets_head, *gets_tail; /* GET with pieces that are not asked for */
    unsigned pieces;                               /* of them under way */
    size_t piece_bytes;
    uint32_t peer_instance;
    unsigned requests;             /* in the send queue */
    unsigned sends;                /* of these: frames, the credit */
    unsigned offers;               /* tickets */
    struct ninja_frame *sending;   /* its parts are being sent, or none of it is yet */
    uint32_t sent;                 /* bytes of its payload that are */
    struct ninja_frame *following; /* the next one, seen already */
    struct verbs_partial partial;
    struct verbs_held *held_head, *held_tail;
    bool pumping;
    bool placing;          /* something writes to its place: the core knows one landing per path */
    bool stopped;          /* CLOSING: in ERROR, nothing more arrives */
    bool failed;           /* the core has been told, or will be */
    bool refuse_post;      /* fault injection: the next request is not taken */
    bool spoil_completion; /* fault injection: the next completion has an error */
    int error;
    char why[96];
};

/* A receive buffer's request, ready to be posted again. */
struct verbs_receive_slot {
    struct ibv_recv_wr request;
    struct ibv_sge piece;
};

#define VERBS_BUCKETS 256

/* The thread that stops and destroys queue pairs; it begins with the first. */
struct verbs_reaper {
    pthread_t thread;
    bool runs;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool end;
    struct verbs_path *waiting;        /* for the reaper, by `next_task` */
    _Atomic(struct verbs_path *) done; /* for progress() */
};

struct verbs_transport {
    struct ninja_transport base;
    struct ninja_verbs_device device;
    char device_name[80]; /* for messages */
    struct ibv_context *context;
    struct ibv_pd *domain;
    struct ibv_comp_channel *channel;
    struct ibv_cq *completions;
    struct ibv_srq *receives;
    struct ibv_port_attr port;
    union ibv_gid gid;
    uint8_t gid_index;
    uint8_t reads_served, reads_asked; /* RDMA READs at a time, as target and as asker */
    bool down;                         /* the port is: no new paths */
    bool port_changed;                 /* its LID or GIDs may be others than when they were read */
    bool lost;                         /* the core knows that the device is gone */
    uint32_t instance;                 /* not 0; another one each time that a device is opened */
    int timer_fd;                      /* looks whether the device is still there */
    unsigned looks;                    /* so many more */
    bool inject_event;                 /* fault injection: this event comes next */
    enum ibv_event_type injected_event;

    unsigned char *memory; /* of all buffers: first those to receive, then those to send */
    size_t memory_size;
    struct ibv_mr *region;
    unsigned receive_count, send_count;
    struct verbs_receive_slot *slots;
    struct ibv_recv_wr *repost, **repost_end; /* to be posted again */
    unsigned repost_count;
    int *free_sends;                          /* a stack of indices */
    unsigned free_send_count;

    unsigned requests, requests_max; /* of all paths: more would overrun the completion queue */
    bool starved;                    /* a path had to stop for want of a buffer or a request */
    struct verbs_ticket *tickets;
    unsigned ticket_count;
    uint16_t free_ticket; /* index + 1 */
    struct verbs_operation *free_operations;
    struct verbs_registrations registrations;
    size_t claimed; /* bytes of the application's memory that exposures and GETs use */

    struct verbs_path *paths;
    struct verbs_path *buckets[VERBS_BUCKETS];
    struct verbs_path *tasks;
    struct verbs_reaper reaper;
    unsigned holding; /* paths with held frames */
    unsigned passes;  /* of progress(), to look for device events now and then */
    unsigned unacked; /* events of the completion channel */
    bool busy;        /* progress() is on the call stack */
    int kick_fd;      /* makes the event file readable when there are tasks */
    bool kicked;
    int handled; /* completions, in this call of progress() */
};

/* --- transport-verbs.c ----------------------------------------------------------------------- */

/* Handles up to about `limit` completions; transport->busy is true. Returns their number. */
unsigned verbs_poll(struct verbs_transport *transport, unsigned limit);

/* --- verbs-memory.c -------------------------------------------------------------------------- */

/* Makes and registers all buffers and posts those that receive. Returns 0 or a negative errno. */
int verbs_memory_create(struct verbs_transport *transport);
void verbs_memory_destroy(struct verbs_transport *transport);

/* The memory of receive or send buffer `index`. */
unsigned char *verbs_receive_buffer(const struct verbs_transport *transport, unsigned index);
unsigned char *verbs_send_buffer(const struct verbs_transport *transport, unsigned index);

/* Receive buffer `index` may be filled again, from the next verbs_receives_post() on. */
void verbs_receive_again(struct verbs_transport *transport, unsigned index);
void verbs_receives_post(struct verbs_transport *transport);

/* Calls of a device that is going can take seconds. */
static inline bool verbs_device_may_be_going(const struct verbs_transport *transport)
{
    return transport->lost || transport->down;
}

/* --- verbs-registrations.c ------------------------------------------------------------------- */

/* Returns 0 or -ENOMEM. */
int verbs_registrations_create(struct verbs_transport *transport);
void verbs_registrations_destroy(struct verbs_transport *transport);

/* Lets the device use the `length` bytes at `at`, until verbs_unregister(). Returns NULL if that is
 * not possible, with errno. */
struct verbs_registration *verbs_register(struct verbs_transport *transport, const void *at,
                                          size_t length, enum verbs_use use);

/* A message no longer needs `registration`. */
void verbs_unregister(struct verbs_transport *transport, struct verbs_registration *registration);

/* Of the vtable. */
void verbs_registrations_forget(struct ninja_transport *transport, uintptr_t start, uintptr_t stop);

/* --- verbs-queue.c --------------------------------------------------------------------------- */

/* Makes the queue pair of `vp`, in INIT. Returns 0 or a negative errno. */
int verbs_queue_create(struct verbs_path *vp);

/* Writes what the peer must know of it. */
void verbs_queue_address(const struct verbs_path *vp, struct verbs_address *address);

/* Connects it with the peer's. Returns 0 or a negative errno. */
int verbs_queue_connect(struct verbs_path *vp, const struct verbs_address *peer);

/* Stops it: nothing is sent, received or served any more. */
void verbs_queue_stop(struct verbs_path *vp);
void verbs_queue_destroy(struct verbs_path *vp);

/* Chooses the GID by which peers know our port. Returns 0 or a negative errno. */
int verbs_gid_choose(struct verbs_transport *transport, char *why, size_t why_size);

/* Reads anew by which LID and GID peers know our port, if those have changed: for new paths. A
 * device may be there before its interface has its address. Returns 0 or a negative errno. */
int verbs_port_renew(struct verbs_transport *transport);

/* --- verbs-path.c ---------------------------------------------------------------------------- */

/* Of the vtable. */
int verbs_path_prepare(struct ninja_path *path, void *address, size_t *size);
void verbs_path_forget(struct ninja_path *path);
int verbs_path_open(struct ninja_path *path, const void *address, size_t size, bool initiator);
void verbs_path_pump(struct ninja_path *path);
void verbs_path_close(struct ninja_path *path);

/* The path with this queue pair, or NULL. */
struct verbs_path *verbs_path_find(const struct verbs_transport *transport, uint32_t queue_pair);

/* Does what was put off; called by progress() only. */
void verbs_tasks_run(struct verbs_transport *transport);

void verbs_path_inject(struct ninja_path *path, enum ninja_fault_kind kind);

/* The status of a completion of `vp`, as the device told it or as fault injection has it. */
static inline enum ibv_wc_status verbs_status(struct verbs_path *vp, enum ibv_wc_status status)
{
    if (!vp->spoil_completion)
        return status;
    vp->spoil_completion = false;
    return IBV_WC_GENERAL_ERR;
}

/* `vp` is broken: the core hears it once. */
void verbs_path_fail(struct verbs_path *vp, int error, const char *why);

/* --- verbs-reaper.c -------------------------------------------------------------------------- */

void verbs_reaper_init(struct verbs_reaper *reaper);

/* Ends the thread; nothing is left for it. */
void verbs_reaper_destroy(struct verbs_reaper *reaper);

/* Lets the thread stop the queue pair of `vp`, or destroy it if it is stopped already; `vp` is in
 * reaper.done then, and the transport's kick_fd is readable. */
void verbs_reaper_take(struct verbs_path *vp);

/* --- verbs-send.c ---------------------------------------------------------------------------- */

/* Sends what there is for `vp`, as much as there is room for. */
void verbs_pump(struct verbs_path *vp);

/* An operation of `vp`, in its list; NULL when memory is exhausted. */
struct verbs_operation *verbs_operation_new(struct verbs_path *vp, int kind);

/* Takes `operation` out of its path's list, with what it holds, and keeps its memory. */
void verbs_operation_free(struct verbs_operation *operation);

/* Posts the READ or ANSWER `operation`, now or when there is room. */
void verbs_operation_post(struct verbs_operation *operation);

/* Hands `request` of `operation`, and those that it names as next, to the device; vp->failed is
 * true if it does not take them. */
void verbs_request_post(struct verbs_operation *operation, struct ibv_send_wr *request);

/* Is there room for `count` requests of `vp`? */
bool verbs_has_room(struct verbs_path *vp, unsigned count);

/* A request of `operation` is completed. */
void verbs_operation_done(struct verbs_operation *operation, enum ibv_wc_status status);

/* The peer has read what it was offered as `ticket`. */
void verbs_ticket_done(struct verbs_path *vp, uint32_t ticket);

/* Gives back all frames that `vp` still has; its queue pair is destroyed. */
void verbs_sends_drop(struct verbs_path *vp);

/* --- verbs-get.c ----------------------------------------------------------------------------- */

/* Of the vtable. */
bool verbs_expose(struct ninja_transport *transport, const void *at,
                  struct ninja_exposure *exposure);
void verbs_conceal(struct ninja_transport *transport, struct ninja_exposure *exposure);
bool verbs_path_get(struct ninja_path *path, uint64_t cookie, const struct ninja_key *key,
                    void *local, uint64_t remote, size_t length);

/* Asks for what the GETs of `vp` still need, as much as there is room for. */
void verbs_gets_post(struct verbs_path *vp);

/* A request of the GET `get` is completed. */
void verbs_get_done(struct verbs_operation *get);

/* The GET `get` is over; the link fetches in another way what it has not got. */
void verbs_get_end(struct verbs_operation *get);

/* --- verbs-receive.c ------------------------------------------------------------------------- */

/* Message `index` has arrived for `vp`. */
void verbs_receive_message(struct verbs_path *vp, const unsigned char *message, size_t size);

/* The payload of the READ `operation` is there. */
void verbs_receive_read(struct verbs_operation *operation);

/* Tries again to land what `vp` holds. */
void verbs_receive_held(struct verbs_path *vp);

/* Throws away what `vp` holds. */
void verbs_receive_drop(struct verbs_path *vp);

#endif
