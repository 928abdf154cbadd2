/* The host's end of the channel to a VM's agent: requests that survive lost bytes, reconnects and
 * restarts. SPDX-License-Identifier: BSD-3-Clause
 *
 * A link does no I/O of its own: a transport moves bytes (a unix socket: guest-link-unix.c;
 * libvirt's stream: guest-link-libvirt.c) and an event loop tells it what happened. One thread at a
 * time. What the guest says is hostile: messages are checked and bounded, and its texts must go
 * through guest_link_printable() before anybody prints them.
 *
 * Functions return 0 or a negative errno; destroy accepts NULL; times are milliseconds of
 * CLOCK_MONOTONIC.
 */
#ifndef GUEST_LINK_H
#define GUEST_LINK_H

#include <stdint.h>
#include <sys/types.h>
#include <jansson.h>

#include "symvirt.h"

#define GUEST_LINK_OPEN_TIMEOUT_MS 3000 /* within which a living agent answers the greeting */

struct guest_link;

/* How bytes move. 'read' and 'write' return a count, -EAGAIN, another negative errno; 'read' 0 at
 * the end. */
struct guest_link_transport {
    ssize_t (*read)(void *transport, void *buffer, size_t size);
    ssize_t (*write)(void *transport, const void *data, size_t size);
    void (*watch_write)(void *transport,
                        int on);    /* call guest_link_on_writable() when it can write */
    void (*close)(void *transport); /* and free it; no callback of it comes later */
};

/* Members may be NULL. JSON is valid during the call. Callbacks may call all functions but destroy.
 */
struct guest_link_callbacks {
    /* The agent answered; 'state' (may be NULL) is its own description: fabrics, results,
     * operation. */
    void (*connected)(void *ctx, const json_t *state);
    /* The channel ended ('error': a positive errno). Requests outstanding stay so until their
     * deadline. */
    void (*disconnected)(void *ctx, int error);
    /* An event message: see SYMVIRT_EVENT. */
    void (*event)(void *ctx, const json_t *event);
    void (*progress)(void *ctx, uint64_t op, const char *what);
    /* A request ended: exactly one call for each. 'result' is a result message; ETIMEDOUT is made
     * here if the guest gave none in time (a release is then aborted, so that the guest undoes it).
     */
    void (*result)(void *ctx, uint64_t op, const json_t *result);
    /* Something worth a line in the log, without newline; printable. */
    void (*log)(void *ctx, const char *line);
};

/* Makes a link without a transport. 'callbacks' is copied. */
int guest_link_create(struct guest_link **link, const struct guest_link_callbacks *callbacks,
                      void *ctx);

/* Closes the transport and frees 'link'; requests outstanding get no result. */
void guest_link_destroy(struct guest_link *link);

/* Begins to speak over 'transport', whose functions and object belong to the link from now on. A
 * transport in use is closed. Requests outstanding are repeated once the agent answers. */
void guest_link_attach(struct guest_link *link, const struct guest_link_transport *functions,
                       void *transport);

/* Ends the use of the transport. */
void guest_link_detach(struct guest_link *link);

/* Connects to the unix socket of a VM's channel (by its live XML). Poll the descriptor of
 * guest_link_unix_fd(), for reading always and for writing if guest_link_unix_wants_write(). */
int guest_link_attach_unix(struct guest_link *link, const char *path);

/* The same over a connected stream socket, which belongs to the link from now on. */
int guest_link_attach_fd(struct guest_link *link, int fd);
int guest_link_unix_fd(const struct guest_link *link);
int guest_link_unix_wants_write(const struct guest_link *link);

/* True once the agent answered on this transport. */
int guest_link_is_connected(const struct guest_link *link);

/* Sends request 'type' and returns its operation id in '*op'. 'fabric' (reference not taken) is for
 * release and resume: {uuid, name, epoch, device?, mac?, pci?, netdev?}; NULL otherwise.
 * 'timeout_ms' from now. The request waits if the agent is not connected. Returns -EBUSY if a
 * release or resume is outstanding, -EINVAL for a bad fabric. */
int guest_link_request(struct guest_link *link, enum symvirt_message_type type,
                       const json_t *fabric, int timeout_ms, uint64_t *op);

/* Asks for links, as SYMVIRT_STATUS_LINKS says; what the guest answers is for ranks-query.h. */
int guest_link_ask_links(struct guest_link *link, uint64_t process, uint64_t first, int timeout_ms,
                         uint64_t *op);

/* Steps the guest's clock to this host's. */
int guest_link_set_time(struct guest_link *link, int timeout_ms, uint64_t *op);

/* Aborts the outstanding request 'op'; its result tells how it ended. Returns -ENOENT. */
int guest_link_abort(struct guest_link *link, uint64_t op);

/* The loop's part: the transport has bytes or ended; it can write; time went by. */
void guest_link_on_readable(struct guest_link *link);
void guest_link_on_writable(struct guest_link *link);
void guest_link_tick(struct guest_link *link);

/* Milliseconds until guest_link_tick() is due; -1: not needed. */
int guest_link_timeout_ms(const struct guest_link *link);

/* Copies 'text' with everything but printable ASCII replaced; returns 'to'. */
char *guest_link_printable(char *to, size_t size, const char *text);

#endif
