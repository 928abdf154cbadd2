/*
 * An RDMA device that is not there: it keeps the requests it is given and completes them when it is
 * told to.
 *
 * It stands in for the functions of libibverbs that an open transport calls, and fails the program
 * when they are called in a way that a device would not forgive.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_FUZZ_FAKE_VERBS_H
#define NINJA_FUZZ_FAKE_VERBS_H

#include <stdio.h>
#include <stdlib.h>

#include "core.h"
#include "transport-verbs.h"

/* Ends the program, for the fuzzer to see, unless `condition` holds. */
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct fake_verbs {
    /* The other end: hears each message that is sent, and gives what is read from its memory. */
    void (*hear)(void *context, const unsigned char *message, size_t size);
    void (*give)(void *context, uint64_t address, void *to, size_t size);
    void *context;
    bool refuse_post, refuse_region; /* the next one */
    unsigned takes;                  /* refuse_post: so many are taken before it */
    bool no_inline;                  /* takes no data with a request */
    union ibv_gid gid;               /* the only one, of RoCE v2 */
    unsigned regions, queue_pairs;   /* that exist */
};
extern struct fake_verbs fake;

/* A transport over the fake device, as verbs_open() would make it; closed like any other. */
struct ninja_transport *fake_verbs_open(struct ninja_core *core);

/* Requests that are neither completed nor dropped. */
unsigned fake_verbs_pending(void);

/* Completes up to `count` of them, in their order, with `status`. */
void fake_verbs_complete(unsigned count, enum ibv_wc_status status);

/* Is there registered memory of `size` bytes at `address` that `key` and `access` open? */
bool fake_verbs_covers(uint64_t address, size_t size, uint32_t key, unsigned access);

/* A device is dead: what is left in its queues is forgotten. */
void fake_verbs_reset(void);

#endif
