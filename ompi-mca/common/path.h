/*
 * A path: one link's way over one fabric, and the state table by which it is opened, drained and
 * closed.
 *
 * Both ends run the same table and talk in path messages, which travel numbered and replayed in the
 * lifeline's control channel. A release never needs the peer: DRAINING ends by force when its time
 * is up.
 *
 * A path is opened only for a link with traffic, seen at either end, and when it is its turn
 * (turns.h) at both.
 *
 *   initiator (the end with the lower id)            responder
 *   CLOSED                                           CLOSED
 *   WAITING --OFFER-->                               ASKED
 *   OFFERED                            <--ACCEPT--   ACCEPTED
 *   PROBING --PROBE on the new path-->
 *           <--ECHO on the new path--                OPEN
 *   OPEN
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_PATH_H
#define NINJA_PATH_H

#include <stdbool.h>
#include <stdint.h>

#include "transport.h"
#include "turns.h"

enum ninja_path_state {
    NINJA_PATH_CLOSED, /* no endpoint; all traffic is on other paths */
    /* The handshake, from here to PROBING. */
    NINJA_PATH_WAITING,  /* initiator: waits for its turn to offer */
    NINJA_PATH_ASKED,    /* responder: the peer's offer waits for its turn to be accepted */
    NINJA_PATH_OFFERED,  /* initiator: our address is sent, the peer's is awaited */
    NINJA_PATH_ACCEPTED, /* responder: endpoint prepared, the probe is awaited */
    NINJA_PATH_PROBING,  /* initiator: endpoint open, the echo of the nonce is awaited */
    NINJA_PATH_OPEN,     /* carries our half-link */
    NINJA_PATH_DRAINING, /* our half-link has left; waits until both directions are empty */
    NINJA_PATH_CLOSING,  /* the transport gives up the endpoint */
    NINJA_PATH_STATES
};

enum ninja_path_event {
    NINJA_PATH_START,       /* both ends have the fabric, one of them has traffic, and we are the
                               initiator (also: time to try again) */
    NINJA_PATH_TURN,        /* the handshake may begin now */
    NINJA_PATH_OFFER,       /* message: the peer offers a generation */
    NINJA_PATH_ACCEPT,      /* message: the peer accepts ours */
    NINJA_PATH_REFUSE,      /* message: the peer does not take ours */
    NINJA_PATH_PROBE,       /* the probe with the right nonce arrived on the path */
    NINJA_PATH_ECHO,        /* the echo with the right nonce arrived on the path */
    NINJA_PATH_RELEASE,     /* we give up the fabric */
    NINJA_PATH_PEER_DOWN,   /* message: the peer gives up the fabric */
    NINJA_PATH_DRAINED,     /* acknowledged up to our last frame, received up to the peer's last */
    NINJA_PATH_PEER_CLOSED, /* message: the peer's endpoint of this generation is gone */
    NINJA_PATH_FAILED,      /* the transport says that the path is broken */
    NINJA_PATH_TIMEOUT,     /* the state's time is up */
    NINJA_PATH_GONE,        /* the transport has given up the endpoint */
    NINJA_PATH_EVENTS
};

enum ninja_path_action {
    NINJA_PATH_DO_ERROR,       /* cannot happen: logged as a bug, state kept */
    NINJA_PATH_DO_NOTHING,     /* expected and of no consequence */
    NINJA_PATH_DO_QUEUE,       /* wait for a turn */
    NINJA_PATH_DO_LEAVE,       /* wait no longer */
    NINJA_PATH_DO_OFFER,       /* choose a generation, send OFFER */
    NINJA_PATH_DO_ACCEPT,      /* prepare the endpoint, send ACCEPT (or REFUSE, when that fails) */
    NINJA_PATH_DO_CONNECT,     /* open the endpoint with the peer's address, send the probe on it */
    NINJA_PATH_DO_ECHO,        /* answer the probe; our half-link moves here */
    NINJA_PATH_DO_REPEAT_ECHO, /* answer the probe again */
    NINJA_PATH_DO_SWITCH,      /* our half-link moves here */
    NINJA_PATH_DO_DRAIN,       /* our half-link leaves; send MARKER */
    NINJA_PATH_DO_CLOSE,       /* drained: close the endpoint, send CLOSED */
    NINJA_PATH_DO_FORCE,  /* our half-link leaves if it is here; close at once, send CLOSED, replay
                           */
    NINJA_PATH_DO_FORGET, /* an offer that comes to nothing: what was prepared is undone */
    NINJA_PATH_DO_REACCEPT, /* the peer began anew: close what we have, then take the new offer */
    NINJA_PATH_DO_FINISH, /* endpoint gone: replay what was not acknowledged, perhaps begin anew */
    NINJA_PATH_ACTIONS
};

/* A cell of the table: what to do, and the state after it. */
struct ninja_path_transition {
    enum ninja_path_action action;
    enum ninja_path_state next;
};

/* The whole table; every cell is filled. */
extern const struct ninja_path_transition ninja_path_table[NINJA_PATH_STATES][NINJA_PATH_EVENTS];

const char *ninja_path_state_name(enum ninja_path_state state);
const char *ninja_path_event_name(enum ninja_path_event event);
const char *ninja_path_action_name(enum ninja_path_action action);

/* Payload of a CONTROL frame; an address of `address_size` bytes follows OFFER and ACCEPT. */
enum ninja_path_message_type {
    NINJA_MESSAGE_FABRIC_UP = 1, /* the sender can use the fabric; `last`: NINJA_UP_... */
    NINJA_MESSAGE_FABRIC_DOWN,   /* the sender gives it up: leave it now */
    NINJA_MESSAGE_OFFER,
    NINJA_MESSAGE_ACCEPT,
    NINJA_MESSAGE_REFUSE,
    NINJA_MESSAGE_MARKER, /* `last` was the last frame of the data channel on `generation` */
    NINJA_MESSAGE_CLOSED, /* the sender's endpoint of `generation` is gone; it has all frames up to
                             `last` */
    NINJA_MESSAGE_TYPES
};

/* What FABRIC_UP says in `last`. */
#define NINJA_UP_ANSWER UINT64_C(1) /* the sender wants to hear of our fabric */
#define NINJA_UP_WANTED UINT64_C(2) /* it has traffic for the path */

struct ninja_path_message {
    uint8_t type; /* enum ninja_path_message_type */
    uint8_t padding[3];
    uint32_t generation;
    unsigned char fabric[16]; /* UUID of the fabric */
    uint64_t epoch;           /* attach epoch of the fabric at the sender */
    uint64_t nonce;
    uint64_t last;
    uint32_t address_size;
    uint32_t padding2;
};

struct ninja_fabric;

/*
 * The lifeline is a path too, with generation 0 and fabric NULL; it is always OPEN for this table
 * (lifeline.c connects, loses and reconnects it without the table).
 */
struct ninja_path {
    struct ninja_link *link;
    struct ninja_fabric *fabric;       /* NULL: the lifeline */
    struct ninja_transport *transport; /* NULL while CLOSED */
    void *transport_data;              /* the transport's own */
    enum ninja_path_state state;
    uint32_t generation;
    uint64_t nonce;
    bool peer_up;    /* the peer has said FABRIC_UP */
    bool wanted;     /* the link has had traffic since the fabric is up; the peer knows */
    bool peer_wants; /* the peer has said so */
    struct ninja_path_turn turn;
    bool probe_wanted;  /* a PROBE waits to leave */
    bool echo_wanted;   /* an ECHO waits to leave */
    bool bye_wanted;    /* lifeline: a BYE waits to leave, after all else */
    bool open_again;    /* an offer arrived while closing; it is kept in `offer` */
    uint64_t last_sent; /* last frame of the data channel that was handed to this generation */
    unsigned gets;      /* reads of the peer's memory on this path */
    bool marker_owed;   /* DRAINING: the MARKER leaves when they have ended */
    bool marker_received;
    uint64_t peer_last;   /* from the peer's MARKER */
    uint64_t deadline_ms; /* of the present state; 0: none */
    unsigned attempts;    /* failed openings since the last success */
    uint64_t since_ms;    /* when our half-link moved here */

    /* The landing now being written on this path, if any (only GET_DATA is placed). */
    bool landing_active;
    bool landing_cancelled; /* another path writes this memory now: discard the rest */
    uint64_t landing_sequence;

    struct ninja_fault_path *fault; /* of fault injection; NULL: nothing is held back */

    struct ninja_path_message offer; /* the last offer received, for DO_ACCEPT and DO_REACCEPT */
    void *offer_address;             /* its offer.address_size bytes, from malloc(); NULL: none */
};

/* Runs the table for `event`. The gate is held. */
void ninja_path_handle(struct ninja_path *path, enum ninja_path_event event);

/* Tells `path`'s table when both directions are empty; called whenever an acknowledgement or a
 * marker has come. */
void ninja_path_check_drained(struct ninja_path *path);

/* A read of the peer's memory on `path` has ended. */
void ninja_path_get_ended(struct ninja_path *path);

/* Handles a path message that arrived on `link`'s control channel. */
void ninja_path_message_received(struct ninja_link *link, const void *payload, size_t size);

/* Tells the peer that we have (`up`) or give up the fabric of `path`; `answer`: it should tell us
 * the same of itself. */
void ninja_path_announce(struct ninja_path *path, bool up, bool answer);

/* The fabric of `path` is another one from now on: what the peer said of the old one is forgotten.
 */
void ninja_path_forget_peer(struct ninja_path *path);

/* `message` is the last offer or its acceptance, with the peer's `address`, from now on. Returns
 * false, and nothing changes, if memory is exhausted. */
bool ninja_path_keep_offer(struct ninja_path *path, const struct ninja_path_message *message,
                           const void *address);

/* Our end begins: it has the lower id. */
bool ninja_path_initiates(const struct ninja_path *path);

/* Opens `path` if both ends have the fabric, one of them has traffic, and our end begins. */
void ninja_path_try(struct ninja_path *path);

/* `link` has something to send: its paths that were not opened for want of traffic are opened. */
void ninja_paths_wake(struct ninja_link *link);

#endif
