/*
 * A real core with a link whose only path is over an RDMA device that is not there: for tests of
 * the verbs transport.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_TEST_VERBS_RIG_H
#define NINJA_TEST_VERBS_RIG_H

#include "fuzz/fake-verbs.h"

/* What the peer calls its own device. */
#define VERBS_RIG_PEER_INSTANCE 77U

/* Made by verbs_rig_create(). */
extern struct ninja_core *core;
extern struct ninja_fabric *fabric;
extern struct ninja_link *link_to_peer;
extern struct ninja_path *path;
extern struct verbs_transport *transport;

/* The fabric is up, its path is closed; `limit` bytes may stay registered. Returns 0 or -1. */
int verbs_rig_create(size_t limit);

/* Everything that the core and the transport own; the path is closed. */
void verbs_rig_destroy(void);

/* Opens the path as the peer would have it. */
void verbs_rig_open_path(void);

#endif
