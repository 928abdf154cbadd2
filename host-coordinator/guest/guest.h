/* The link to a VM's agent over its virtio-serial channel, through libvirt: guest-link/ on one VM.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * It stays open while the VM runs, comes back by itself after a loss, and follows the VM to another
 * host. What the guest says is hostile input: libsymvirt bounds and checks it, and nothing of it is
 * used but numbers, truth values and texts for humans. Loop's thread only.
 */
#ifndef GUEST_H
#define GUEST_H

#include <jansson.h>

#include "host.h"
#include "inventory.h"
#include "symvirt.h"

struct guest;

/* The end of a request: 'error' is 0 or a positive errno (ETIMEDOUT: no answer in time), 'message'
 * a sentence or "", 'detail' an object or NULL; valid during the call. */
typedef void (*guest_done)(void *ctx, int error, const char *message, const json_t *detail);

struct guest_callbacks {
    /* A device in the guest came, went or changed: an event message. */
    void (*event)(void *ctx, struct guest *guest, const json_t *message);
    /* What the agent waits for in the running operation. */
    void (*progress)(void *ctx, struct guest *guest, const char *what);
    /* The agent answers (1) or is gone (0); 'state' (may be NULL) is what it says of itself. */
    void (*alive)(void *ctx, struct guest *guest, int alive, const json_t *state);
};

/* Makes a link, closed. Lives as long as the daemon. */
struct guest *guest_create(const struct inventory_vm *vm, const struct guest_callbacks *callbacks,
                           void *ctx);

const struct inventory_vm *guest_vm(const struct guest *guest);

/* The VM runs at 'host' now (NULL: nowhere): the link goes there. 'again' opens it anew even if it
 * is there already. */
void guest_follow(struct guest *guest, struct host *host, int again);

/* The same, anew, after 'ms' milliseconds. */
void guest_follow_later(struct guest *guest, struct host *host, int ms);

/* True while the agent answers. */
int guest_alive(const struct guest *guest);

/* Sends request 'type'; 'fabric' (reference not taken) is for release and resume. Waits for an
 * agent that is not there, at most 'limit_ms' in all. 'done' is called once, never before this
 * returns. Returns the operation, or 0 if it cannot be asked (busy with another release or resume,
 * memory). */
uint64_t guest_request(struct guest *guest, enum symvirt_message_type type, const json_t *fabric,
                       int limit_ms, guest_done done, void *ctx);

/* Asks which transport each link of each rank in the VM uses. 'detail' of the end is as
 * ranks_query_result() says, also after an error, with what is known. Returns -ENOMEM. */
int guest_ask_ranks(struct guest *guest, int limit_ms, guest_done done, void *ctx);

/* Steps the guest's clock to this host's; otherwise as above. */
uint64_t guest_set_time(struct guest *guest, int limit_ms, guest_done done, void *ctx);

/* Tells the agent to undo 'op', if it is still running; its result comes as ever. */
void guest_abort(struct guest *guest, uint64_t op);

/* Aborts and forgets 'op': 'done' is not called. An op that ended is no error. */
void guest_forget(struct guest *guest, uint64_t op);

#endif
