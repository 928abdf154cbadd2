/* The state of one rank of ninja-soak.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef SOAK_H
#define SOAK_H

#include "heartbeat.h"
#include "soak-buffer.h"
#include "soak-layout.h"
#include "soak-plan.h"

#include <mpi.h>

/* Faults that a self-test makes at the receiver, to prove that they would be reported. */
enum soak_fault {
    SOAK_FAULT_NONE,
    SOAK_FAULT_FLIP,
    SOAK_FAULT_DROP,
    SOAK_FAULT_DUPLICATE,
    SOAK_FAULT_REORDER,
    SOAK_FAULT_LATE,
    SOAK_FAULT_STALL,
    SOAK_FAULT_COUNT
};

/* The command line. */
struct soak_options {
    double rate; /* messages per second and rank, 0: as many as possible */
    double duration_s;
    uint64_t seed;
    size_t min_size, max_size;
    const char *observer; /* NULL: none */
    const char *json;     /* NULL: standard output */
    enum soak_pattern pattern;
    double compute_s;     /* length of a phase of computing, 0: none */
    int compute_rank;     /* which rank computes, -1: all, one after the other */
    double idle_s;        /* length of the silence in the middle, 0: none */
    double stall_limit_s; /* give up after this time without work done, 0: never */
    enum soak_fault fault;
};

/* What was counted; all 64 bits wide, so that one reduction sums them up. */
struct soak_counters {
    uint64_t sent, verified, lost, duplicated, corrupt, reordered, overwritten, collectives, bytes;
};
#define SOAK_COUNTERS (sizeof(struct soak_counters) / sizeof(uint64_t))

/* What the rank knows of one other rank. */
struct soak_peer {
    uint64_t sent[SOAK_STREAM_COUNT];     /* messages to it */
    uint64_t expected[SOAK_STREAM_COUNT]; /* messages of it for which a receive was posted */
    struct soak_tracker *received;        /* SOAK_STREAM_COUNT of them, made at first use */
};

/* A send or a receive under way. */
struct soak_transfer {
    const struct soak_message *message; /* NULL for persistent ones */
    struct soak_identity id;            /* of a receive: what is expected */
    struct soak_buffer *buffer;
    size_t size; /* bytes of the message; of a wildcard: room */
    enum soak_layout_kind layout;
    MPI_Datatype type;
    int count;
    bool sending, done;
    MPI_Status status;
};

/* A pair of persistent requests to the next and from the previous rank. */
struct soak_channel {
    struct soak_transfer send, receive;
    MPI_Request requests[2];
};
#define SOAK_CHANNELS 3

struct soak {
    const struct soak_options *options;
    struct soak_plan plan;
    int rank, ranks;
    MPI_Comm comm[SOAK_STREAM_COUNT];
    MPI_Comm any[SOAK_COLLECTIVE_EVERY]; /* of SOAK_STREAM_ANY, by turns */
    MPI_Comm control;                    /* collectives, and the agreement on the end */
    struct heartbeat heartbeat;
    struct soak_pool pool;
    struct soak_counters counters;
    struct soak_peer *peers;
    struct soak_channel channels[SOAK_CHANNELS];
    uint64_t batch;
    unsigned findings; /* printed or not */
    /* Of the batch under way; at most 'transfer_room' of each. */
    struct soak_message *messages;
    struct soak_transfer *transfers;
    MPI_Request *requests;
    int *indices;
    MPI_Status *statuses;
    unsigned transfer_count, transfer_room;
    /* For the self-test. */
    bool fault_done, fault_swap;
    /* For the stall limit. */
    volatile uint64_t work;
    const char *volatile doing;
};

/* soak-options.c: reads the command line. Returns true to go on, or false with the exit code in
 * '*status'. */
bool soak_options_parse(struct soak_options *options, int argc, char **argv, int *status);

/* soak-verify.c: takes in the message of 'transfer', which is complete. */
void soak_receive_verify(struct soak *soak, struct soak_transfer *transfer);

/* soak-verify.c: counts what was never received, after all ranks have stopped sending. */
void soak_lost_count(struct soak *soak);

/* soak-verify.c: tells the observer and the stall limit that work was done. */
void soak_work_done(struct soak *soak);

/* soak-traffic.c: sends and receives the messages of the current batch. */
void soak_batch_run(struct soak *soak);

/* soak-traffic.c: makes the datatype of 'transfer' for its layout, or frees it. */
void soak_type_make(struct soak_transfer *transfer);
void soak_type_free(struct soak_transfer *transfer);

/* soak-persistent.c: the persistent requests. */
void soak_channels_open(struct soak *soak);
void soak_channels_start(struct soak *soak);
void soak_channels_finish(struct soak *soak);
void soak_channels_close(struct soak *soak);

/* soak-collective.c: a verified collective chosen by the batch's number. */
void soak_collective_run(struct soak *soak);

/* soak-watch.c: ends the program with a description of what is missing if no work is done for
 * 'limit_s' seconds; 0 ends the watch. */
void soak_watch_set(struct soak *soak, double limit_s);

#endif
