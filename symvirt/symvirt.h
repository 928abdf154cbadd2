/* libsymvirt: how a host, a guest's agent and the processes that use a fabric talk about giving up
 * and getting back its device. SPDX-License-Identifier: BSD-3-Clause
 *
 * Four layers, each usable alone:
 *
 *   codec      frames of strict JSON with magic, length, CRC-32C, sequence and epoch; a decoder
 * that finds its way back after lost or foreign bytes. session    exactly-once, in-order delivery
 * over a channel that may lose or repeat bytes and change its far end (virtio-serial across a
 * migration). No I/O of its own. client     for a process that uses a fabric: told to release and
 * resume it, by the agent or by a controller on its own control socket. requester  the other end of
 * a control socket: sends a request, waits for its result.
 *
 * Conventions, unless a function says otherwise:
 *  - Functions that can fail return 0 or a negative errno; outputs are set only on success.
 *  - An object is used by one thread at a time; different objects may be used by different threads
 * at once.
 *  - Destroy functions accept NULL.
 *  - Times are milliseconds; clocks are CLOCK_MONOTONIC.
 *  - Numbers in messages are 0 to INT64_MAX, because JSON integers are read as signed 64-bit
 * numbers.
 */
#ifndef SYMVIRT_H
#define SYMVIRT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <jansson.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------------
 * Names and limits
 */

#define SYMVIRT_CHANNEL_NAME   "org.ninja.symvirt.0"                   /* virtio-serial channel */
#define SYMVIRT_PORT_PATH      "/dev/virtio-ports/org.ninja.symvirt.0" /* ... as the guest sees it */
#define SYMVIRT_AGENT_SOCKET   "/run/symvirt/agent.sock" /* where processes register */
#define SYMVIRT_PROTOCOL       1                         /* "protocol" in hello and register */
#define SYMVIRT_PAYLOAD_MAX    65536                     /* bytes of JSON in a frame */
#define SYMVIRT_JSON_DEPTH_MAX 16                        /* nested arrays and objects */
#define SYMVIRT_FRAME_HEADER   32                        /* bytes before the payload */

/* Time limits, nested so that the inner one always fires first. */
#define SYMVIRT_PROCESS_TIMEOUT_MS     2000  /* a process gives up its device */
#define SYMVIRT_AGENT_TIMEOUT_MS       5000  /* an agent frees the device of a VM */
#define SYMVIRT_COORDINATOR_TIMEOUT_MS 10000 /* a coordinator waits for an agent */

/* Message types ("type" in every message). Members marked ? are optional; members not named here
 * are ignored. An "op" names an operation; who asks chooses it, and it never means two operations
 * between the same two ends. */
enum symvirt_message_type {
    SYMVIRT_HELLO,   /* host <-> agent: {epoch, role, protocol, state?}: begins a session, see
                        "Session" */
    SYMVIRT_ACK,     /* host <-> agent: {sequence}: all up to sequence arrived */
    SYMVIRT_PING,    /* {op}: answered by a result at once, whatever else is going on */
    SYMVIRT_RELEASE, /* {op, fabric}: give up the fabric's device */
    SYMVIRT_RESUME,  /* {op, fabric}: the fabric's device is there again */
    SYMVIRT_ABORT, /* {op}: undo operation op; op's own result answers (ECANCELED, or its success if
                      it came too late); ENOENT if there is none. An agent undoes a release even
                      after its success, as long as nothing else happened to that fabric */
    SYMVIRT_STATUS,  /* {op, of?, process?, first?}: answered by a result whose detail describes the
                        receiver; with "of", see below, a part of what it knows */
    SYMVIRT_SETTIME, /* host -> agent: {op, realtime_ns}: step the guest's clock */
    SYMVIRT_REGISTER,   /* process -> agent: {pid, name, kind, protocol, operations?} */
    SYMVIRT_REGISTERED, /* agent -> process: {fabrics: [fabric...]}: the answer, fabrics that may be
                           used now */
    SYMVIRT_PROGRESS,   /* {op, what}: still at it, and what it does or waits for */
    SYMVIRT_RESULT,     /* {op, ok, error, message?, detail?}: the operation ended; error is 0 or an
                           errno */
    SYMVIRT_EVENT, /* {event, fabric?, device?, port?, state?}: something happened to a device */
    SYMVIRT_MESSAGE_TYPES
};

/* Values of "event" in an event message. */
#define SYMVIRT_EVENT_DEVICE_ADDED   "device-added"
#define SYMVIRT_EVENT_DEVICE_REMOVED "device-removed"
#define SYMVIRT_EVENT_PORT_STATE     "port-state" /* "state": ACTIVE, DOWN, INIT, ARMED */
#define SYMVIRT_EVENT_FABRIC_PRESENT                                                               \
    "fabric-present" /* agent -> process: the fabric may be used                                   \
                      */

/*
 * Value of "of" in a status message: the connections of processes to their peers, a page at a time.
 * To a process, {first}: it answers {links: {job, rank, total, first, links: [[job, rank, way,
 * seconds]...]}}, at most SYMVIRT_LINKS_PAGE of them from number `first` on: the peer, the way that
 * is used to it, and for how long. To an agent, {process, first}: it asks the first process whose
 * number is not below `process` and adds {process, next, processes, name, pid, error?}: its number,
 * the number to ask for the next one (0: there is none), how many there are, what it calls itself,
 * and why there is no page of it. Number 0 is below all. Who does not know "of" answers with its
 * whole status.
 */
#define SYMVIRT_STATUS_LINKS "links"
#define SYMVIRT_LINKS_PAGE   256

/*
 * Another value of "of", to a process: the same connections with all that its status says of each,
 * {details: {total, first, links: [{...}...]}}, at most SYMVIRT_DETAILS_PAGE of them from number
 * `first` on. Its whole status has the first page in it, as `links` and `links_total`.
 */
#define SYMVIRT_STATUS_DETAILS "details"
#define SYMVIRT_DETAILS_PAGE   32

/* A fabric, and the device that reaches it in this machine. In messages:
 * {"uuid": ..., "name": ..., "epoch": N, "device"?: ...}. */
struct symvirt_fabric {
    char uuid[37];  /* names the fabric world-wide; "" in a request means: found by name */
    char name[32];  /* the inventory's name */
    uint64_t epoch; /* counts the attachments of a device of this fabric to this VM; 0: not known */
    char device[64]; /* RDMA device such as mlx5_0 or rxe0, "" if not known */
};

/* The name of 'type' in messages and logs, such as "release"; "unknown" for a value outside the
 * enumeration. The string is static. Any thread. */
const char *symvirt_message_type_name(enum symvirt_message_type type);

/* ------------------------------------------------------------------------------------------------
 * Messages. Every function that makes one returns a new reference or NULL when memory is out. Any
 * thread.
 */

/* Checks that 'message' is an object with a known type whose required members have the right JSON
 * types and ranges. Sets '*type'. Returns -EBADMSG if not. The message may come from a hostile
 * sender. */
int symvirt_message_check(const json_t *message, enum symvirt_message_type *type);

/* A request {type, op}: ping, abort or status. */
json_t *symvirt_message_request(enum symvirt_message_type type, uint64_t op);

/* A status request for links. */
json_t *symvirt_message_links_request(uint64_t op, uint64_t process, uint64_t first);

/* A status request for details. */
json_t *symvirt_message_details_request(uint64_t op, uint64_t first);

/* A request {type, op, fabric}: release or resume. */
json_t *symvirt_message_fabric_request(enum symvirt_message_type type, uint64_t op,
                                       const struct symvirt_fabric *fabric);

/* A progress message of operation 'op'. 'what' is UTF-8 text for a human. */
json_t *symvirt_message_progress(uint64_t op, const char *what);

/* The result of operation 'op': 'error' is 0 or a positive errno; 'text' (may be NULL) is a
 * sentence for a human; 'detail' (may be NULL) is an object, of which a reference is taken. */
json_t *symvirt_message_result(uint64_t op, int error, const char *text, json_t *detail);

/* "op" of a checked message; 0 if it has none. */
uint64_t symvirt_message_op(const json_t *message);

/* An unsigned member of 'message'; 'missing' if it is absent, negative or not an integer. */
uint64_t symvirt_message_number(const json_t *message, const char *member, uint64_t missing);

/* A text member of 'message', owned by the message; "" if it is absent or not a string. */
const char *symvirt_message_text(const json_t *message, const char *member);

/* Reads a fabric object into '*fabric'. Returns -EBADMSG if a member is missing, too long, of the
 * wrong type, or holds other characters than letters, digits and "._:-" (such text may become part
 * of a path or a log line). */
int symvirt_fabric_from_json(const json_t *object, struct symvirt_fabric *fabric);

/* A JSON object for 'fabric' (new reference). */
json_t *symvirt_fabric_to_json(const struct symvirt_fabric *fabric);

/* True if 'a' and 'b' are the same fabric: by uuid when both have one, else by name. The epoch does
 * not count. */
int symvirt_fabric_same(const struct symvirt_fabric *a, const struct symvirt_fabric *b);

/* ------------------------------------------------------------------------------------------------
 * Codec
 *
 * A frame: magic FF 'S' 'Y' 'V', length of the payload (32 bits), CRC-32C (32 bits) of everything
 * but magic and itself, 32 bits of zero, sequence (64 bits), epoch (64 bits), payload; numbers are
 * big-endian. The payload is UTF-8, so FF never occurs in it: a payload with FF was cut, and the
 * decoder looks for the next magic at once.
 */

/* Makes a frame of the object 'message'. '*frame' is for the caller to free(). Returns -EMSGSIZE if
 * the JSON is longer than SYMVIRT_PAYLOAD_MAX, -EINVAL if it is no object or nested too deep,
 * -ENOMEM. Any thread. */
int symvirt_frame_encode(const json_t *message, uint64_t sequence, uint64_t epoch, void **frame,
                         size_t *size);

/* Gets a decoded frame. 'message' is an object, of strict JSON and bounded depth but otherwise
 * unchecked; it is the decoder's, valid during the call (json_incref() keeps it). The handler must
 * not feed or destroy its decoder. */
typedef void (*symvirt_frame_handler)(void *ctx, json_t *message, uint64_t sequence,
                                      uint64_t epoch);

struct symvirt_decoder_counters {
    uint64_t frames;        /* handed to the handler */
    uint64_t bytes_skipped; /* bytes that were part of no good frame */
    uint64_t bad_length;    /* headers with an impossible length */
    uint64_t bad_crc;       /* frames with a wrong CRC */
    uint64_t bad_json;      /* frames with a good CRC whose payload is no acceptable JSON object */
    uint64_t cut;           /* frames that were cut in their payload */
};

struct symvirt_decoder;

/* Makes a decoder that calls 'handler' with 'ctx'. Its memory is bounded by the size of one frame.
 */
int symvirt_decoder_create(struct symvirt_decoder **decoder, symvirt_frame_handler handler,
                           void *ctx);

/* Frees 'decoder'. */
void symvirt_decoder_destroy(struct symvirt_decoder *decoder);

/* Takes 'size' bytes as they came and calls the handler for every frame that they complete. Bytes
 * that make no sense are skipped and counted, never an error. */
void symvirt_decoder_feed(struct symvirt_decoder *decoder, const void *data, size_t size);

/* Forgets a half-received frame: after a reconnect. The counters stay. */
void symvirt_decoder_reset(struct symvirt_decoder *decoder);

/* What 'decoder' has seen so far; valid as long as the decoder. */
const struct symvirt_decoder_counters *
symvirt_decoder_counters(const struct symvirt_decoder *decoder);

/* ------------------------------------------------------------------------------------------------
 * Session: messages between a host and a guest's agent over a channel that may lose bytes
 *
 * A virtio-serial channel loses host->guest bytes when the VM migrates, its far end may vanish and
 * another take over, and either program may restart. A session does no I/O and reads no clock: its
 * user moves bytes between it and the channel and tells it the time ('now_ms', any monotonic
 * clock).
 *
 *  - The host begins a session with a new epoch: HELLO{epoch, role "host"}, repeated until the
 * guest answers HELLO{same epoch, role "guest", state}. All other frames carry that epoch in their
 *    header; frames of other epochs are dropped. What was not acknowledged when a new epoch begins
 * is dropped: the state in the guest's HELLO and the operation ids tell both sides where they are.
 *  - A guest that knows no epoch (it restarted) asks with HELLO{epoch 0} and the host begins anew.
 *  - Messages are numbered from 1 in each epoch and direction. The receiver takes only the next
 *    number and acknowledges all it has with ACK{sequence}; the sender repeats what is not
 *    acknowledged (100 ms, doubling to 1 s). So each arrives once and in order. HELLO and ACK carry
 *    sequence 0.
 */

struct symvirt_session;

enum symvirt_session_role { SYMVIRT_SESSION_HOST, SYMVIRT_SESSION_GUEST };

enum symvirt_session_state {
    SYMVIRT_SESSION_CLOSED,   /* no channel */
    SYMVIRT_SESSION_GREETING, /* there is a channel, no answer from the other side yet */
    SYMVIRT_SESSION_OPEN,     /* both sides agreed on an epoch */
};

/* Called by the functions below; they may call symvirt_session_send() but must not destroy or close
 * their session. */
struct symvirt_session_callbacks {
    /* A checked message other than HELLO and ACK; valid during the call. */
    void (*message)(void *ctx, enum symvirt_message_type type, json_t *message);
    /* A new epoch began. 'state': on the host, the "state" of the guest's HELLO, may be NULL. */
    void (*opened)(void *ctx, const json_t *state);
    /* The guest's state for its HELLO: a new reference or NULL. Not called on the host. */
    json_t *(*describe)(void *ctx);
};

struct symvirt_session_counters {
    uint64_t epochs;       /* sessions that came to be open */
    uint64_t delivered;    /* messages handed to the callback */
    uint64_t resent;       /* frames sent again */
    uint64_t repeated;     /* frames received again */
    uint64_t gaps;         /* frames dropped because one before them is missing */
    uint64_t stale;        /* frames of another epoch */
    uint64_t bad_messages; /* frames without a known, well-formed message */
};

/* Makes a closed session; 'callbacks' is copied (message is required). Returns -ENOMEM. */
int symvirt_session_create(struct symvirt_session **session, enum symvirt_session_role role,
                           const struct symvirt_session_callbacks *callbacks, void *ctx);

/* Frees 'session'. */
void symvirt_session_destroy(struct symvirt_session *session);

/* The channel is there: begins to greet. The host's 'epoch' must be new (such as realtime in ns, at
 * most INT64_MAX); the guest's is ignored. Also restarts a session that is not closed. */
void symvirt_session_open(struct symvirt_session *session, uint64_t epoch, int64_t now_ms);

/* The channel went away. Messages not acknowledged are dropped when the next epoch begins. */
void symvirt_session_close(struct symvirt_session *session);

/* Takes bytes from the channel. Never fails: what makes no sense is counted. */
void symvirt_session_input(struct symvirt_session *session, const void *data, size_t size,
                           int64_t now_ms);

/* Bytes for the channel: sets '*data' and returns how many; they stay valid until the next call of
 * another function. Then tell symvirt_session_written() how many were taken. */
size_t symvirt_session_output(const struct symvirt_session *session, const void **data);
void symvirt_session_written(struct symvirt_session *session, size_t size);

/* Sends 'message', whose reference is taken in any case. Returns -ENOTCONN if the session is not
 * open, -ENOBUFS if 64 messages wait for acknowledgement, or an error of symvirt_frame_encode(). */
int symvirt_session_send(struct symvirt_session *session, json_t *message, int64_t now_ms);

/* Milliseconds until symvirt_session_tick() should be called; -1: not needed. */
int symvirt_session_timeout_ms(const struct symvirt_session *session, int64_t now_ms);

/* Repeats what is due. */
void symvirt_session_tick(struct symvirt_session *session, int64_t now_ms);

enum symvirt_session_state symvirt_session_state(const struct symvirt_session *session);

/* True if all that was sent has been acknowledged. */
int symvirt_session_all_acknowledged(const struct symvirt_session *session);

/* Valid as long as the session; so is what symvirt_session_decoder_counters() returns. */
const struct symvirt_session_counters *
symvirt_session_counters(const struct symvirt_session *session);
const struct symvirt_decoder_counters *
symvirt_session_decoder_counters(const struct symvirt_session *session);

/* ------------------------------------------------------------------------------------------------
 * Client: a process that uses a fabric
 *
 * It has one file descriptor to poll and never blocks. Operations come in by callbacks, which start
 * the work and return at once; symvirt_client_complete() tells the end. The 'op' of a callback is
 * the client's own number, unique in its lifetime and never 0.
 */

struct symvirt_client;

/* Any member may be NULL: the operation then ends at once, "release" and "resume" with EOPNOTSUPP.
 * Pointers are valid during the call only. Callbacks run inside symvirt_client_dispatch() and may
 * call all functions of their client except dispatch and destroy. */
struct symvirt_client_callbacks {
    /* Give up the device of 'fabric': close everything opened on it, then complete 'op' with 0. */
    void (*release)(void *ctx, uint64_t op, const struct symvirt_fabric *fabric);
    /* The device of 'fabric' may be opened again; complete 'op' once it is in use (or with the
     * errno why not). */
    void (*resume)(void *ctx, uint64_t op, const struct symvirt_fabric *fabric);
    /* Undo 'op' if that is still possible; 'op' must still be completed (ECANCELED if undone). */
    void (*abort)(void *ctx, uint64_t op);
    /* Describes the process: an object (new reference), or NULL for nothing to say. Answered at
     * once. */
    json_t *(*status)(void *ctx);
    /* The agent says that "fabric" may be used: at registration, and when a device came without
     * anybody asking this process to resume. Comes again after a restart of the agent: take it as
     * "use the fabric if you do not already". Nothing to complete. A fabric that is fenced now is
     * not reported; a resume follows when the fence is lifted. */
    void (*fabric_present)(void *ctx, const struct symvirt_fabric *fabric);
    /* The connection to the agent came (1) or went (0). Operations outstanding go on. */
    void (*agent_connected)(void *ctx, int connected);
    /* Describes the connections to peers from number 'first' on, as SYMVIRT_STATUS_LINKS says: the
     * inner object (new reference), or NULL. Answered at once. */
    json_t *(*links)(void *ctx, uint64_t first);
    /* The same in full, as SYMVIRT_STATUS_DETAILS says. */
    json_t *(*details)(void *ctx, uint64_t first);
};

/* Makes a client. 'name' names the process to humans, such as "job 4711 rank 3" (copied; up to 63
 * bytes are used). 'callbacks' is copied; 'ctx' is handed to every callback. Returns -ENOMEM or the
 * error of epoll_create1(). */
int symvirt_client_create(struct symvirt_client **client, const char *name,
                          const struct symvirt_client_callbacks *callbacks, void *ctx);

/* Closes all connections, removes the control socket and frees 'client'. Operations outstanding are
 * forgotten. */
void symvirt_client_destroy(struct symvirt_client *client);

/* Listens on a unix socket at 'path' (mode 0600; replaces the file of a process that is gone).
 * Controllers of the same user or root may connect, several at a time, and send release, resume,
 * abort, status and ping. One path per client. Returns -EADDRINUSE if a living process listens
 * there, -ENAMETOOLONG, -EALREADY, or the error of bind(). */
int symvirt_client_listen(struct symvirt_client *client, const char *path);

/* Registers at the agent's socket 'path' (NULL: SYMVIRT_AGENT_SOCKET), now or as soon as there is
 * an agent: an absent agent is no error and is retried quietly with back-off (0.1 s to 1 s). After
 * an agent's restart the registration is repeated together with the operations outstanding and the
 * results that the old agent did not hear. Returns -ENAMETOOLONG, -EALREADY or -ENOMEM. */
int symvirt_client_connect_agent(struct symvirt_client *client, const char *path);

/* The descriptor to poll for reading; it stays the same for the client's lifetime and is the
 * client's. */
int symvirt_client_fd(const struct symvirt_client *client);

/* Milliseconds after which to call dispatch even if the descriptor is quiet; -1: no need to. */
int symvirt_client_timeout_ms(const struct symvirt_client *client);

/* Does what can be done without blocking: accepts, reads, calls callbacks, writes, reconnects. */
void symvirt_client_dispatch(struct symvirt_client *client);

/* Ends operation 'op': 'error' is 0 or a positive errno, 'message' a sentence for a human (may be
 * NULL), 'detail' an object for programs (may be NULL; a reference is taken). Returns -ENOENT if
 * there is no such operation. */
int symvirt_client_complete(struct symvirt_client *client, uint64_t op, int error,
                            const char *message, json_t *detail);

/* Tells who asked for 'op' what it does or waits for. Returns -ENOENT if there is no such
 * operation. */
int symvirt_client_progress(struct symvirt_client *client, uint64_t op, const char *what);

/* ------------------------------------------------------------------------------------------------
 * Requester: asks a client over its control socket, or an agent over its socket
 */

struct symvirt_requester;

/* Connects to the unix socket 'path'. Returns -ECONNREFUSED or -ENOENT if nobody listens there,
 * -ENAMETOOLONG, or another error of connect(). Does not block. */
int symvirt_requester_connect(struct symvirt_requester **requester, const char *path);

/* Closes the connection, also for a process that was forked and has it, too, and frees 'requester'.
 * A running operation goes on without a listener. */
void symvirt_requester_destroy(struct symvirt_requester *requester);

/* The descriptor to poll for reading. */
int symvirt_requester_fd(const struct symvirt_requester *requester);

/* The process at the other end, as the kernel says. */
pid_t symvirt_requester_peer(const struct symvirt_requester *requester);

/* Sends 'message' after setting its "op" to a number that is new on this connection ('*op', may be
 * NULL). An abort keeps the "op" that it names. May block for a moment if the other end does not
 * read, up to 1 s, then -ETIMEDOUT. Returns -EPIPE if the other end is gone. */
int symvirt_requester_send(struct symvirt_requester *requester, json_t *message, uint64_t *op);

/* The next message that has come, without waiting: a new reference, checked by
 * symvirt_message_check(). Returns -EAGAIN if there is none yet, -ECONNRESET if the other end
 * closed. */
int symvirt_requester_receive(struct symvirt_requester *requester, json_t **message);

/* Sends 'message' and waits up to 'timeout_ms' for its result; progress in between goes to
 * 'progress' (may be NULL).
 * '*result' is a new reference to a checked result message; its "ok" says whether the operation
 * went well. Returns -ETIMEDOUT, -ECONNRESET or an error of symvirt_requester_send(). */
int symvirt_requester_call(struct symvirt_requester *requester, json_t *message, int timeout_ms,
                           void (*progress)(void *ctx, const char *what), void *ctx,
                           json_t **result);

#ifdef __cplusplus
}
#endif
#endif
