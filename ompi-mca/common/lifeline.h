/*
 * The lifeline of a link: the TCP connection that is always there, comes back by itself and
 * replays.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_LIFELINE_H
#define NINJA_LIFELINE_H

#include "link.h"
#include "tcp.h"

/* Of all that ranks say to each other: another one is not understood. */
#define NINJA_CONTACT_VERSION 2U

/* What a process publishes so that others find its lifeline. */
struct ninja_contact {
    uint32_t version;
    uint32_t padding;
    uint64_t nonce;
    union ninja_tcp_address address;
};

/*
 * Opens the transport of all lifelines: listens on `what` (ninja_tcp_choose_address()). Returns 0
 * or a negative errno with a sentence in `why`.
 */
int ninja_lifeline_open(struct ninja_core *core, const char *what, char *why, size_t why_size);

/* Says BYE on all lifelines, gives it up to `limit_ms` to leave, and closes everything. */
void ninja_lifeline_close(struct ninja_core *core, unsigned limit_ms);

/* Our contact. */
void ninja_lifeline_contact(const struct ninja_core *core, struct ninja_contact *contact);

/* Gives `link` its lifeline, not connected. Returns 0 or -ENOMEM. */
int ninja_lifeline_create(struct ninja_link *link);
void ninja_lifeline_destroy(struct ninja_link *link);

/* Where and how the peer of `link` can be reached. */
void ninja_lifeline_set_contact(struct ninja_link *link, const struct ninja_contact *contact);

/* The peer said BYE: it is not looked for any more. */
void ninja_lifeline_peer_gone(struct ninja_link *link);

/* The name of the lifeline's state, for status: "idle", "connecting", "connected", "waiting",
 * "gone". */
const char *ninja_lifeline_state(const struct ninja_link *link);

/* Connection attempts whose time has come, and streams in trouble; returns the earliest next time
 * (0: none). */
uint64_t ninja_lifeline_tick(struct ninja_link *link, uint64_t now);

/*
 * This machine was moved: what its peers sent while it stood still is lost, and their TCP will wait
 * before it sends that again. Each connected lifeline tries a new connection beside the old one, on
 * which both ends replay at once. May be called again while the machine announces itself. The gate
 * is held.
 */
void ninja_lifeline_renew_all(struct ninja_core *core);

/* Breaks the connection as if the network had: fault injection. */
void ninja_lifeline_reset(struct ninja_link *link);

#endif
