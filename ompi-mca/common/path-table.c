/*
 * The state table of a path, cell by cell, and its names.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "path.h"

#define CELL(event, what, state)                                                                   \
    [NINJA_PATH_##event] = {.action = NINJA_PATH_DO_##what, .next = NINJA_PATH_##state}

/* clang-format off */
const struct ninja_path_transition ninja_path_table[NINJA_PATH_STATES][NINJA_PATH_EVENTS] = {
    [NINJA_PATH_CLOSED] = {
        CELL(START,       QUEUE,   WAITING),
        CELL(TURN,        ERROR,   CLOSED),
        CELL(OFFER,       QUEUE,   ASKED),
        CELL(ACCEPT,      NOTHING, CLOSED), /* of an offer that we gave up */
        CELL(REFUSE,      NOTHING, CLOSED),
        CELL(PROBE,       ERROR,   CLOSED),
        CELL(ECHO,        ERROR,   CLOSED),
        CELL(RELEASE,     NOTHING, CLOSED),
        CELL(PEER_DOWN,   NOTHING, CLOSED),
        CELL(DRAINED,     ERROR,   CLOSED),
        CELL(PEER_CLOSED, NOTHING, CLOSED), /* we closed first */
        CELL(FAILED,      ERROR,   CLOSED),
        CELL(TIMEOUT,     ERROR,   CLOSED),
        CELL(GONE,        ERROR,   CLOSED),
    },
    [NINJA_PATH_WAITING] = {
        CELL(START,       NOTHING, WAITING),
        CELL(TURN,        OFFER,   OFFERED),
        CELL(OFFER,       ERROR,   WAITING), /* only the end with the lower id offers */
        CELL(ACCEPT,      NOTHING, WAITING), /* of an offer that we gave up */
        CELL(REFUSE,      NOTHING, WAITING),
        CELL(PROBE,       ERROR,   WAITING),
        CELL(ECHO,        ERROR,   WAITING),
        CELL(RELEASE,     LEAVE,   CLOSED),
        CELL(PEER_DOWN,   LEAVE,   CLOSED),
        CELL(DRAINED,     ERROR,   WAITING),
        CELL(PEER_CLOSED, NOTHING, WAITING), /* of the opening before */
        CELL(FAILED,      ERROR,   WAITING),
        CELL(TIMEOUT,     ERROR,   WAITING),
        CELL(GONE,        ERROR,   WAITING),
    },
    [NINJA_PATH_ASKED] = {
        CELL(START,       NOTHING, ASKED),
        CELL(TURN,        ACCEPT,  ACCEPTED),
        CELL(OFFER,       QUEUE,   ASKED), /* the newer offer takes the older one's place */
        CELL(ACCEPT,      ERROR,   ASKED),
        CELL(REFUSE,      ERROR,   ASKED),
        CELL(PROBE,       ERROR,   ASKED),
        CELL(ECHO,        ERROR,   ASKED),
        CELL(RELEASE,     LEAVE,   CLOSED), /* the peer hears that we give up the fabric */
        CELL(PEER_DOWN,   LEAVE,   CLOSED),
        CELL(DRAINED,     ERROR,   ASKED),
        CELL(PEER_CLOSED, LEAVE,   CLOSED), /* the initiator gave up its offer */
        CELL(FAILED,      ERROR,   ASKED),
        CELL(TIMEOUT,     ERROR,   ASKED),
        CELL(GONE,        ERROR,   ASKED),
    },
    [NINJA_PATH_OFFERED] = {
        CELL(START,       NOTHING, OFFERED),
        CELL(TURN,        ERROR,   OFFERED),
        CELL(OFFER,       ERROR,   OFFERED), /* only the end with the lower id offers */
        CELL(ACCEPT,      CONNECT, PROBING),
        CELL(REFUSE,      FORGET,  CLOSED),
        CELL(PROBE,       ERROR,   OFFERED),
        CELL(ECHO,        ERROR,   OFFERED),
        CELL(RELEASE,     FORGET,  CLOSED),
        CELL(PEER_DOWN,   FORGET,  CLOSED),
        CELL(DRAINED,     ERROR,   OFFERED),
        CELL(PEER_CLOSED, FORGET,  CLOSED), /* it accepted, then its endpoint failed */
        CELL(FAILED,      ERROR,   OFFERED),
        CELL(TIMEOUT,     FORGET,  CLOSED),
        CELL(GONE,        ERROR,   OFFERED),
    },
    [NINJA_PATH_ACCEPTED] = {
        CELL(START,       NOTHING,  ACCEPTED),
        CELL(TURN,        ERROR,    ACCEPTED),
        CELL(OFFER,       REACCEPT, CLOSING), /* the initiator gave up its first offer */
        CELL(ACCEPT,      ERROR,    ACCEPTED),
        CELL(REFUSE,      ERROR,    ACCEPTED),
        CELL(PROBE,       ECHO,     OPEN),
        CELL(ECHO,        ERROR,    ACCEPTED),
        CELL(RELEASE,     FORCE,    CLOSING),
        CELL(PEER_DOWN,   FORCE,    CLOSING),
        CELL(DRAINED,     ERROR,    ACCEPTED),
        CELL(PEER_CLOSED, FORCE,    CLOSING),
        CELL(FAILED,      FORCE,    CLOSING),
        CELL(TIMEOUT,     FORCE,    CLOSING),
        CELL(GONE,        ERROR,    ACCEPTED),
    },
    [NINJA_PATH_PROBING] = {
        CELL(START,       NOTHING, PROBING),
        CELL(TURN,        ERROR,   PROBING),
        CELL(OFFER,       ERROR,   PROBING),
        CELL(ACCEPT,      ERROR,   PROBING),
        CELL(REFUSE,      FORCE,   CLOSING),
        CELL(PROBE,       ERROR,   PROBING),
        CELL(ECHO,        SWITCH,  OPEN),
        CELL(RELEASE,     FORCE,   CLOSING),
        CELL(PEER_DOWN,   FORCE,   CLOSING),
        CELL(DRAINED,     ERROR,   PROBING),
        CELL(PEER_CLOSED, FORCE,   CLOSING),
        CELL(FAILED,      FORCE,   CLOSING),
        CELL(TIMEOUT,     FORCE,   CLOSING),
        CELL(GONE,        ERROR,   PROBING),
    },
    [NINJA_PATH_OPEN] = {
        CELL(START,       NOTHING,     OPEN),
        CELL(TURN,        ERROR,       OPEN),
        CELL(OFFER,       REACCEPT,    CLOSING), /* the initiator lost its end before we noticed */
        CELL(ACCEPT,      ERROR,       OPEN),
        CELL(REFUSE,      ERROR,       OPEN),
        CELL(PROBE,       REPEAT_ECHO, OPEN),
        CELL(ECHO,        NOTHING,     OPEN),
        CELL(RELEASE,     DRAIN,       DRAINING),
        CELL(PEER_DOWN,   DRAIN,       DRAINING),
        CELL(DRAINED,     ERROR,       OPEN),
        CELL(PEER_CLOSED, FORCE,       CLOSING),
        CELL(FAILED,      FORCE,       CLOSING),
        CELL(TIMEOUT,     ERROR,       OPEN),
        CELL(GONE,        ERROR,       OPEN),
    },
    [NINJA_PATH_DRAINING] = {
        CELL(START,       NOTHING,  DRAINING), /* taken up again when the path is closed */
        CELL(TURN,        ERROR,    DRAINING),
        CELL(OFFER,       REACCEPT, CLOSING),
        CELL(ACCEPT,      ERROR,    DRAINING),
        CELL(REFUSE,      ERROR,    DRAINING),
        CELL(PROBE,       NOTHING,  DRAINING),
        CELL(ECHO,        NOTHING,  DRAINING),
        CELL(RELEASE,     NOTHING,  DRAINING), /* the peer released first */
        CELL(PEER_DOWN,   NOTHING,  DRAINING), /* both release at once */
        CELL(DRAINED,     CLOSE,    CLOSING),
        CELL(PEER_CLOSED, FORCE,    CLOSING),
        CELL(FAILED,      FORCE,    CLOSING), /* the peer's end may simply be closed already */
        CELL(TIMEOUT,     FORCE,    CLOSING),
        CELL(GONE,        ERROR,    DRAINING),
    },
    [NINJA_PATH_CLOSING] = {
        CELL(START,       NOTHING,  CLOSING),
        CELL(TURN,        ERROR,    CLOSING),
        CELL(OFFER,       REACCEPT, CLOSING),
        CELL(ACCEPT,      NOTHING,  CLOSING),
        CELL(REFUSE,      NOTHING,  CLOSING),
        CELL(PROBE,       NOTHING,  CLOSING),
        CELL(ECHO,        NOTHING,  CLOSING),
        CELL(RELEASE,     NOTHING,  CLOSING),
        CELL(PEER_DOWN,   NOTHING,  CLOSING),
        CELL(DRAINED,     ERROR,    CLOSING),
        CELL(PEER_CLOSED, NOTHING,  CLOSING),
        CELL(FAILED,      NOTHING,  CLOSING),
        CELL(TIMEOUT,     ERROR,    CLOSING),
        CELL(GONE,        FINISH,   CLOSED),
    },
};
/* clang-format on */

const char *ninja_path_state_name(enum ninja_path_state state)
{
    static const char *const names[NINJA_PATH_STATES] = {
        "CLOSED",  "WAITING", "ASKED",    "OFFERED", "ACCEPTED",
        "PROBING", "OPEN",    "DRAINING", "CLOSING",
    };

    return (unsigned)state < NINJA_PATH_STATES ? names[state] : "?";
}

const char *ninja_path_event_name(enum ninja_path_event event)
{
    static const char *const names[NINJA_PATH_EVENTS] = {
        "START",   "TURN",      "OFFER",   "ACCEPT",      "REFUSE", "PROBE",   "ECHO",
        "RELEASE", "PEER_DOWN", "DRAINED", "PEER_CLOSED", "FAILED", "TIMEOUT", "GONE",
    };

    return (unsigned)event < NINJA_PATH_EVENTS ? names[event] : "?";
}

const char *ninja_path_action_name(enum ninja_path_action action)
{
    static const char *const names[NINJA_PATH_ACTIONS] = {
        "ERROR",       "NOTHING", "QUEUE", "LEAVE", "OFFER", "ACCEPT", "CONNECT",  "ECHO",
        "REPEAT_ECHO", "SWITCH",  "DRAIN", "CLOSE", "FORCE", "FORGET", "REACCEPT", "FINISH",
    };

    return (unsigned)action < NINJA_PATH_ACTIONS ? names[action] : "?";
}
