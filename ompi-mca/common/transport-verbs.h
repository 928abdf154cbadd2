/*
 * Inside the verbs transport: an own UCX context for each opening, its workers, its paths and what
 * is in flight.
 *
 * Why several workers: UCX pairs the endpoints of two workers by counting them on each side, so
 * after an opening that only one side saw, the next pair would be crossed for ever. Here the
 * initiator connects from a worker that has never connected to that peer before, and the other
 * side makes its endpoint only when the initiator's HELLO has come in: each count is 0 or 1.
 * Normally the first worker serves all; others live little longer than their paths.
 *
 *   initiator                                        other side
 *   CONNECTING --HELLO (our address, handle, nonce)-> WAITING
 *              <--WELCOME (its handle)--              LIVE
 *   LIVE
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_TRANSPORT_VERBS_H
#define NINJA_TRANSPORT_VERBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucp/api/ucp.h>

#include "transport.h"
#include "verbs-device.h"

/* Active messages of UCX that we use. */
enum verbs_message { VERBS_MESSAGE_FRAME, VERBS_MESSAGE_HELLO, VERBS_MESSAGE_WELCOME };

/* Names a path in its process: the slot in the table, and which use of that slot is meant. */
struct verbs_handle {
    uint32_t slot;
    uint32_t use;
};

/* Header of VERBS_MESSAGE_FRAME; the payload follows. */
struct verbs_frame_header {
    struct verbs_handle to;
    struct ninja_frame_header frame;
};

/* Header of HELLO (its payload is the sender's worker address) and WELCOME. */
struct verbs_hello {
    struct verbs_handle to;   /* WELCOME only */
    struct verbs_handle from; /* where the sender expects frames of this path */
    uint64_t sender;          /* id of the sending process */
    uint64_t nonce;           /* of the path; both ends know it from the lifeline */
    uint32_t generation;
    uint32_t padding;
};

enum verbs_path_state {
    VERBS_PATH_WAITING,    /* the HELLO is awaited; no endpoint */
    VERBS_PATH_CONNECTING, /* the WELCOME is awaited */
    VERBS_PATH_LIVE,
    VERBS_PATH_CLOSING /* the endpoint is closed; operations in flight come back */
};

/* What is left to be done for a path as soon as UCX is not on the call stack. */
enum verbs_task {
    VERBS_TASK_FAIL = 1,    /* tell the core that the path is broken */
    VERBS_TASK_CONNECT = 2, /* a HELLO came: make the endpoint, answer */
    VERBS_TASK_CLOSE = 4,   /* close the endpoint; or see whether all has come back */
    VERBS_TASK_PUMP = 8     /* there is room to send again */
};

/* Our addresses begin with this, before UCX's own. */
struct verbs_address {
    uint32_t magic;
    uint32_t size; /* of UCX's address */
};
#define VERBS_ADDRESS_MAGIC 0x4e4a5631U /* "NJV1" */

/* A path that is closed should have all operations back after this time. */
#define VERBS_CLOSE_LIMIT_MS 1500

/* What UCX runs over; all but RDMA is for tests. */
enum verbs_kind { VERBS_OVER_RDMA, VERBS_OVER_TCP, VERBS_OVER_SHM };

struct verbs_path;

/* A send or a rendezvous receive that UCX works on; its memory is not ours until UCX calls back. */
struct verbs_operation {
    struct verbs_operation *next, *previous; /* of its path; `next` also in the list of free ones */
    struct verbs_path *owner;
    enum { VERBS_SEND, VERBS_RECEIVE, VERBS_CLOSE } kind;
    struct ninja_frame *frame; /* VERBS_SEND: given back when done; NULL: a HELLO or WELCOME */
    size_t bytes;              /* VERBS_SEND: of payload */
    void *buffer;              /* VERBS_RECEIVE: ours to free; NULL: it is placed */
    union {
        struct verbs_frame_header frame_header; /* UCX 1.13 reads headers until the send is done */
        struct verbs_hello hello;
    };
    ucp_dt_iov_t iov[2];
};

/* A frame that has to wait: for memory (landing WAIT), or for the landing that is being written. */
struct verbs_held {
    struct verbs_held *next;
    struct ninja_frame_header header;
    void *descriptor; /* UCX's, of a rendezvous that has not begun; NULL: the payload is here */
    unsigned char payload[];
};

struct verbs_worker {
    struct verbs_worker *next;
    struct verbs_transport *transport;
    ucp_worker_h ucp;
    ucp_address_t *address;
    size_t address_size;
    unsigned paths;         /* that use it */
    uint64_t idle_since_ms; /* when the last of them left */
    uint64_t *connected;    /* peers that it has ever connected to */
    size_t connected_count;
};

struct verbs_path {
    struct verbs_path *next, *previous; /* all paths of the transport */
    struct verbs_path *next_task;
    unsigned tasks; /* enum verbs_task; not 0: in the transport's list of tasks */
    struct verbs_transport *transport;
    struct ninja_path *path;
    struct verbs_worker *worker; /* NULL while WAITING */
    ucp_ep_h endpoint;
    enum verbs_path_state state;
    struct verbs_handle handle; /* ours, for the peer */
    struct verbs_handle peer;   /* the peer's, for our headers */
    void *peer_address;         /* WAITING: from the HELLO, for VERBS_TASK_CONNECT */
    struct verbs_operation *operations;
    unsigned sends; /* operations that are sends: the credit */
    size_t send_bytes;
    bool pumping;
    bool placing; /* a rendezvous writes to its place: the core knows one landing per path */
    bool failed;  /* the core has been told, or will be */
    int error;
    char why[64];
    struct verbs_held *held_head, *held_tail;
    uint64_t close_deadline_ms; /* CLOSING: by then all operations should be back */
};

struct verbs_transport {
    struct ninja_transport base;
    enum verbs_kind kind;
    struct ninja_verbs_device device; /* VERBS_OVER_RDMA only */
    char device_name[80];             /* for messages */
    ucp_context_h context;
    struct verbs_worker *workers; /* the first is the one whose address is published; it stays */
    struct verbs_path *paths;
    struct verbs_path *tasks;
    struct verbs_path **slots;
    size_t slot_count;
    uint32_t next_use;
    unsigned holding; /* paths with held frames */
    unsigned closing; /* paths that are CLOSING */
    int kick_fd;      /* keeps the event file readable when UCX has no event for what we wait for */
    bool kicked;
    bool busy;   /* UCX, or the list of tasks, is on the call stack */
    bool broken; /* UCX does not give operations back: no new paths, the workers go */
    int handled; /* frames, in this call of progress() */
    struct verbs_operation *free_operations;
};

/* --- verbs-worker.c -------------------------------------------------------------------------- */

/*
 * Makes the UCX context of `transport` for `ucx_device`, as UCX_NET_DEVICES has it. Returns 0 or a
 * negative errno with a sentence in `why`.
 */
int verbs_context_create(struct verbs_transport *transport, const char *ucx_device, char *why,
                         size_t why_size);

/* Makes a worker and adds it to the end of transport->workers. Returns 0 or a negative errno. */
int verbs_worker_create(struct verbs_transport *transport, struct verbs_worker **worker);

/* Takes `worker` off the list and destroys it with all its endpoints. */
void verbs_worker_destroy(struct verbs_worker *worker);

/* A worker that has never connected to `peer`, made if there is none; it is noted that now it has.
 */
int verbs_worker_for(struct verbs_transport *transport, uint64_t peer,
                     struct verbs_worker **worker);

/*
 * A path leaves `worker`. Without paths it lives on for a while, unless it is the first: the peer
 * may be in the middle of answering it.
 */
void verbs_worker_leave(struct verbs_worker *worker);

/* Destroys workers, but the first, that have been without paths for long enough. */
void verbs_workers_expire(struct verbs_transport *transport);

/* Arms the event files of all workers. Returns false if there is something to progress instead. */
bool verbs_workers_arm(struct verbs_transport *transport);

/* The negative errno for an error of UCX. */
int verbs_error(ucs_status_t status);

/* Our settings of UCX, for tests: the variable of setting `index` without UCX_, NULL behind the
 * last one. */
const char *ninja_verbs_setting_name(unsigned index);

/* --- verbs-receive.c ------------------------------------------------------------------------- */

/* Registers the callbacks for all our messages with `worker`. Returns 0 or a negative errno. */
int verbs_receive_register(struct verbs_worker *worker);

/* Tries again to land what `vp` holds. */
void verbs_receive_held(struct verbs_path *vp);

/* Throws away what `vp` holds. */
void verbs_receive_drop(struct verbs_path *vp);

/* The rendezvous receive `operation` is over. */
void verbs_receive_done(struct verbs_operation *operation, ucs_status_t status);

/* --- verbs-path.c ---------------------------------------------------------------------------- */

/* Of the vtable. */
int verbs_path_open(struct ninja_path *path, const void *address, size_t size, bool initiator);
void verbs_path_pump(struct ninja_path *path);
void verbs_path_close(struct ninja_path *path);

/* Notes what is to be done for `vp` when UCX is off the call stack. */
void verbs_path_task(struct verbs_path *vp, enum verbs_task task);

/* Makes sure that progress() is called although UCX may have no event. */
void verbs_kick(struct verbs_transport *transport);

/* Does what was put off while UCX was on the call stack; transport->busy is true. */
void verbs_tasks_run(struct verbs_transport *transport);

/* `vp` is broken: the core hears it once. */
void verbs_path_fail(struct verbs_path *vp, int error, const char *why);

/* The path that `handle` names, if frames may arrive on it, or NULL. */
struct verbs_path *verbs_path_find(struct verbs_transport *transport, struct verbs_handle handle);

/* An operation of `vp`, in its list; NULL when memory is exhausted. */
struct verbs_operation *verbs_operation_new(struct verbs_path *vp, int kind);

/* Takes `operation` out of its path's list and keeps its memory for the next one. */
void verbs_operation_free(struct verbs_operation *operation);

/* The send `operation` is over: its frame goes back. */
void verbs_send_done(struct verbs_operation *operation, ucs_status_t status);

#endif
