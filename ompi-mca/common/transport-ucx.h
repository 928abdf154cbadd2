/*
 * Inside the ucx transport: an own UCX context for each opening, its workers, its paths and what
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
#ifndef NINJA_TRANSPORT_UCX_H
#define NINJA_TRANSPORT_UCX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucp/api/ucp.h>

#include "transport.h"
#include "verbs-device.h"

/* Active messages of UCX that we use. */
enum ucx_message { UCX_MESSAGE_FRAME, UCX_MESSAGE_HELLO, UCX_MESSAGE_WELCOME };

/* Names a path in its process: the slot in the table, and which use of that slot is meant. */
struct ucx_handle {
    uint32_t slot;
    uint32_t use;
};

/* Header of UCX_MESSAGE_FRAME; the payload follows. */
struct ucx_frame_header {
    struct ucx_handle to;
    struct ninja_frame_header frame;
};

/* Header of HELLO (its payload is the sender's worker address) and WELCOME. */
struct ucx_hello {
    struct ucx_handle to;   /* WELCOME only */
    struct ucx_handle from; /* where the sender expects frames of this path */
    uint64_t sender;        /* id of the sending process */
    uint64_t nonce;         /* of the path; both ends know it from the lifeline */
    uint32_t generation;
    uint32_t padding;
};

enum ucx_path_state {
    UCX_PATH_WAITING,    /* the HELLO is awaited; no endpoint */
    UCX_PATH_CONNECTING, /* the WELCOME is awaited */
    UCX_PATH_LIVE,
    UCX_PATH_CLOSING /* the endpoint is closed; operations in flight come back */
};

/* What is left to be done for a path as soon as UCX is not on the call stack. */
enum ucx_task {
    UCX_TASK_FAIL = 1,    /* tell the core that the path is broken */
    UCX_TASK_CONNECT = 2, /* a HELLO came: make the endpoint, answer */
    UCX_TASK_CLOSE = 4,   /* close the endpoint; or see whether all has come back */
    UCX_TASK_PUMP = 8     /* there is room to send again */
};

/* Our addresses begin with this, before UCX's own. */
struct ucx_address {
    uint32_t magic;
    uint32_t size; /* of UCX's address */
};
#define UCX_ADDRESS_MAGIC 0x4e4a5631U /* "NJV1" */

/* A path that is closed should have all operations back after this time. */
#define UCX_CLOSE_LIMIT_MS 1500

/* What UCX runs over; all but RDMA is for tests. */
enum ucx_kind { UCX_OVER_RDMA, UCX_OVER_TCP, UCX_OVER_SHM };

struct ucx_path;

/* A send or a rendezvous receive that UCX works on; its memory is not ours until UCX calls back. */
struct ucx_operation {
    struct ucx_operation *next, *previous; /* of its path; `next` also in the list of free ones */
    struct ucx_path *owner;
    enum { UCX_SEND, UCX_RECEIVE, UCX_CLOSE } kind;
    struct ninja_frame *frame; /* UCX_SEND: given back when done; NULL: a HELLO or WELCOME */
    size_t bytes;              /* UCX_SEND: of payload */
    void *buffer;              /* UCX_RECEIVE: ours to free; NULL: it is placed */
    union {
        struct ucx_frame_header frame_header; /* UCX 1.13 reads headers until the send is done */
        struct ucx_hello hello;
    };
    ucp_dt_iov_t iov[2];
};

/* A frame that has to wait: for memory (landing WAIT), or for the landing that is being written. */
struct ucx_held {
    struct ucx_held *next;
    struct ninja_frame_header header;
    void *descriptor; /* UCX's, of a rendezvous that has not begun; NULL: the payload is here */
    unsigned char payload[];
};

struct ucx_worker {
    struct ucx_worker *next;
    struct ucx_transport *transport;
    ucp_worker_h ucp;
    ucp_address_t *address;
    size_t address_size;
    unsigned paths;         /* that use it */
    uint64_t idle_since_ms; /* when the last of them left */
    uint64_t *connected;    /* peers that it has ever connected to */
    size_t connected_count;
};

struct ucx_path {
    struct ucx_path *next, *previous; /* all paths of the transport */
    struct ucx_path *next_task;
    unsigned tasks; /* enum ucx_task; not 0: in the transport's list of tasks */
    struct ucx_transport *transport;
    struct ninja_path *path;
    struct ucx_worker *worker; /* NULL while WAITING */
    ucp_ep_h endpoint;
    enum ucx_path_state state;
    struct ucx_handle handle; /* ours, for the peer */
    struct ucx_handle peer;   /* the peer's, for our headers */
    void *peer_address;       /* WAITING: from the HELLO, for UCX_TASK_CONNECT */
    struct ucx_operation *operations;
    unsigned sends; /* operations that are sends: the credit */
    size_t send_bytes;
    bool pumping;
    bool placing; /* a rendezvous writes to its place: the core knows one landing per path */
    bool failed;  /* the core has been told, or will be */
    int error;
    char why[64];
    struct ucx_held *held_head, *held_tail;
    uint64_t close_deadline_ms; /* CLOSING: by then all operations should be back */
};

struct ucx_transport {
    struct ninja_transport base;
    enum ucx_kind kind;
    struct ninja_verbs_device device; /* UCX_OVER_RDMA only */
    char device_name[80];             /* for messages */
    ucp_context_h context;
    struct ucx_worker *workers; /* the first is the one whose address is published; it stays */
    struct ucx_path *paths;
    struct ucx_path *tasks;
    struct ucx_path **slots;
    size_t slot_count;
    uint32_t next_use;
    unsigned holding; /* paths with held frames */
    unsigned closing; /* paths that are CLOSING */
    int kick_fd;      /* keeps the event file readable when UCX has no event for what we wait for */
    bool kicked;
    bool busy;   /* UCX, or the list of tasks, is on the call stack */
    bool broken; /* UCX does not give operations back: no new paths, the workers go */
    int handled; /* frames, in this call of progress() */
    struct ucx_operation *free_operations;
};

/* --- ucx-worker.c -------------------------------------------------------------------------- */

/*
 * Makes the UCX context of `transport` for `ucx_device`, as UCX_NET_DEVICES has it. Returns 0 or a
 * negative errno with a sentence in `why`.
 */
int ucx_context_create(struct ucx_transport *transport, const char *ucx_device, char *why,
                       size_t why_size);

/* Makes a worker and adds it to the end of transport->workers. Returns 0 or a negative errno. */
int ucx_worker_create(struct ucx_transport *transport, struct ucx_worker **worker);

/* Takes `worker` off the list and destroys it with all its endpoints. */
void ucx_worker_destroy(struct ucx_worker *worker);

/* A worker that has never connected to `peer`, made if there is none; it is noted that now it has.
 */
int ucx_worker_for(struct ucx_transport *transport, uint64_t peer, struct ucx_worker **worker);

/*
 * A path leaves `worker`. Without paths it lives on for a while, unless it is the first: the peer
 * may be in the middle of answering it.
 */
void ucx_worker_leave(struct ucx_worker *worker);

/* Destroys workers, but the first, that have been without paths for long enough. */
void ucx_workers_expire(struct ucx_transport *transport);

/* Arms the event files of all workers. Returns false if there is something to progress instead. */
bool ucx_workers_arm(struct ucx_transport *transport);

/* The negative errno for an error of UCX. */
int ucx_error(ucs_status_t status);

/* Our settings of UCX, for tests: the variable of setting `index` without UCX_, NULL behind the
 * last one. */
const char *ninja_ucx_setting_name(unsigned index);

/* --- ucx-receive.c ------------------------------------------------------------------------- */

/* Registers the callbacks for all our messages with `worker`. Returns 0 or a negative errno. */
int ucx_receive_register(struct ucx_worker *worker);

/* Tries again to land what `vp` holds. */
void ucx_receive_held(struct ucx_path *vp);

/* Throws away what `vp` holds. */
void ucx_receive_drop(struct ucx_path *vp);

/* The rendezvous receive `operation` is over. */
void ucx_receive_done(struct ucx_operation *operation, ucs_status_t status);

/* --- ucx-path.c ---------------------------------------------------------------------------- */

/* Of the vtable. */
int ucx_path_open(struct ninja_path *path, const void *address, size_t size, bool initiator);
void ucx_path_pump(struct ninja_path *path);
void ucx_path_close(struct ninja_path *path);

/* Notes what is to be done for `vp` when UCX is off the call stack. */
void ucx_path_task(struct ucx_path *vp, enum ucx_task task);

/* Makes sure that progress() is called although UCX may have no event. */
void ucx_kick(struct ucx_transport *transport);

/* Does what was put off while UCX was on the call stack; transport->busy is true. */
void ucx_tasks_run(struct ucx_transport *transport);

/* `vp` is broken: the core hears it once. */
void ucx_path_fail(struct ucx_path *vp, int error, const char *why);

/* The path that `handle` names, if frames may arrive on it, or NULL. */
struct ucx_path *ucx_path_find(struct ucx_transport *transport, struct ucx_handle handle);

/* An operation of `vp`, in its list; NULL when memory is exhausted. */
struct ucx_operation *ucx_operation_new(struct ucx_path *vp, int kind);

/* Takes `operation` out of its path's list and keeps its memory for the next one. */
void ucx_operation_free(struct ucx_operation *operation);

/* The send `operation` is over: its frame goes back. */
void ucx_send_done(struct ucx_operation *operation, ucs_status_t status);

#endif
