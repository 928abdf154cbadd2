/* All collectives, blocking and non-blocking, on the world, on a part of it in another order, and
 * between two groups. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "mpi-check.h"

#include <stdlib.h>
#include <string.h>

#define COUNT_MAXIMUM 100000 /* of long, over all blocks of a buffer */

/* One call of one collective. */
struct call {
    MPI_Comm comm;
    int rank, ranks; /* of ours in 'comm' */
    int remote;      /* ranks whose data we get: of the other group, if there is one */
    bool inter;
    bool immediate; /* the non-blocking form */
    bool in_place;
    MPI_Request request;
    size_t count; /* elements of each block */
    uint64_t serial;
    int root;
    int counts[64], places[64];
};

/* Calls the blocking or the non-blocking form with the same arguments. */
#define CALL(c, name, immediate_name, ...)                                                         \
    do {                                                                                           \
        if ((c)->immediate) {                                                                      \
            MPI_##immediate_name(__VA_ARGS__, &(c)->request);                                      \
            MPI_Wait(&(c)->request, MPI_STATUS_IGNORE);                                            \
        } else {                                                                                   \
            MPI_##name(__VA_ARGS__);                                                               \
        }                                                                                          \
    } while (0)

/* Element 'i' of what 'from' has for 'to'. Sums over ranks stay exact. */
static long value(const struct call *call, int from, int to, size_t i)
{
    return (long)(call->serial % 1000) * 1000003 + from * 7919 + to * 104729 + (long)i;
}

static long *block_new(size_t count)
{
    return check_buffer(count * sizeof(long));
}

static void block_fill(const struct call *call, long *at, int to)
{
    size_t i;

    for (i = 0; i < call->count; i++)
        at[i] = value(call, call->rank, to, i);
}

static void block_verify(const struct call *call, const long *at, int from, int to,
                         const char *what)
{
    size_t i;

    for (i = 0; i < call->count; i++)
        CHECK(at[i] == value(call, from, to, i), "%s: element %zu of %zu from %d is %ld, not %ld",
              what, i, call->count, from, at[i], value(call, from, to, i));
    check_count(call->count * sizeof(long));
}

/* The sum over ranks 0 to 'ranks' - 1 of what they have for 'to'. */
static void sum_verify(const struct call *call, const long *at, size_t from, size_t count,
                       int ranks, int to, const char *what)
{
    size_t i;
    long sum;
    int rank;

    for (i = 0; i < count; i++) {
        for (sum = 0, rank = 0; rank < ranks; rank++)
            sum += value(call, rank, to, from + i);
        CHECK(at[i] == sum, "%s: sum %zu of %zu is %ld, not %ld", what, i, count, at[i], sum);
    }
    check_count(count * sizeof(long));
}

/* In a communicator of two groups, rank 0 of the first is the root, and the second gets. */
static int root_of(const struct call *call, bool *root, bool *getting)
{
    int first = 0;

    *root = call->rank == call->root;
    *getting = true;
    if (!call->inter)
        return call->root;
    MPI_Comm_rank(MPI_COMM_WORLD, &first);
    first = first % 2 == 0; /* the groups are the even and the odd ranks */
    *root = first && call->rank == 0;
    *getting = !first;
    return first ? (*root ? MPI_ROOT : MPI_PROC_NULL) : 0;
}

/* --- The collectives -------------------------------------------------------------------------- */

static void run_barrier(struct call *call)
{
    if (call->immediate) {
        MPI_Ibarrier(call->comm, &call->request);
        MPI_Wait(&call->request, MPI_STATUS_IGNORE);
    } else {
        MPI_Barrier(call->comm);
    }
}

static void run_bcast(struct call *call)
{
    long *at = block_new(call->count);
    bool root, getting;
    int argument = root_of(call, &root, &getting), from = call->inter ? 0 : call->root;

    if (root)
        block_fill(call, at, 0);
    CALL(call, Bcast, Ibcast, at, (int)call->count, MPI_LONG, argument, call->comm);
    if (root || getting)
        block_verify(call, at, from, 0, "bcast");
    check_untouched(at, call->count * sizeof(long), call->count * sizeof(long), "bcast");
    free(at);
}

static void run_reduce(struct call *call)
{
    long *in = block_new(call->count), *out = block_new(call->count);
    bool root, getting;
    int argument = root_of(call, &root, &getting);

    block_fill(call, out, 0);
    if (call->in_place && root && !call->inter) {
        block_fill(call, in, 0);
        CALL(call, Reduce, Ireduce, MPI_IN_PLACE, in, (int)call->count, MPI_LONG, MPI_SUM, argument,
             call->comm);
    } else {
        CALL(call, Reduce, Ireduce, out, in, (int)call->count, MPI_LONG, MPI_SUM, argument,
             call->comm);
    }
    if (root)
        sum_verify(call, in, 0, call->count, call->remote, 0, "reduce");
    free(in);
    free(out);
}

static void run_allreduce(struct call *call)
{
    long *in = block_new(call->count), *out = block_new(call->count);

    block_fill(call, out, 0);
    if (call->in_place && !call->inter) {
        block_fill(call, in, 0);
        CALL(call, Allreduce, Iallreduce, MPI_IN_PLACE, in, (int)call->count, MPI_LONG, MPI_SUM,
             call->comm);
    } else {
        CALL(call, Allreduce, Iallreduce, out, in, (int)call->count, MPI_LONG, MPI_SUM, call->comm);
    }
    sum_verify(call, in, 0, call->count, call->remote, 0, "allreduce");
    check_untouched(in, call->count * sizeof(long), call->count * sizeof(long), "allreduce");
    free(in);
    free(out);
}

static void run_gather(struct call *call)
{
    size_t n = (size_t)call->remote;
    long *in = block_new(n * call->count), *out = block_new(call->count);
    bool root, getting, vector = call->serial % 2;
    int i, argument = root_of(call, &root, &getting);

    block_fill(call, out, 0);
    for (i = 0; i < call->remote; i++)
        call->counts[i] = (int)call->count,
        call->places[i] = (call->remote - 1 - i) * (int)call->count;
    if (vector)
        CALL(call, Gatherv, Igatherv, out, (int)call->count, MPI_LONG, in, call->counts,
             call->places, MPI_LONG, argument, call->comm);
    else
        CALL(call, Gather, Igather, out, (int)call->count, MPI_LONG, in, (int)call->count, MPI_LONG,
             argument, call->comm);
    for (i = 0; root && i < call->remote; i++)
        block_verify(call, in + (vector ? (size_t)call->places[i] : (size_t)i * call->count), i, 0,
                     "gather");
    check_untouched(in, root ? n * call->count * sizeof(long) : 0, n * call->count * sizeof(long),
                    "gather");
    free(in);
    free(out);
}

static void run_scatter(struct call *call)
{
    long *in = block_new(call->count), *out = block_new((size_t)call->remote * call->count);
    bool root, getting, vector = call->serial % 2;
    int i, argument = root_of(call, &root, &getting);

    for (i = 0; i < call->remote; i++) {
        call->counts[i] = (int)call->count;
        call->places[i] = (vector ? call->remote - 1 - i : i) * (int)call->count;
        block_fill(call, out + call->places[i], i);
    }
    if (vector)
        CALL(call, Scatterv, Iscatterv, out, call->counts, call->places, MPI_LONG, in,
             (int)call->count, MPI_LONG, argument, call->comm);
    else
        CALL(call, Scatter, Iscatter, out, (int)call->count, MPI_LONG, in, (int)call->count,
             MPI_LONG, argument, call->comm);
    if (getting)
        block_verify(call, in, call->inter ? 0 : call->root, call->rank, "scatter");
    free(in);
    free(out);
}

static void run_allgather(struct call *call)
{
    size_t n = (size_t)call->remote;
    long *in = block_new(n * call->count), *out = block_new(call->count);
    bool vector = call->serial % 2;
    int i;

    block_fill(call, out, 0);
    for (i = 0; i < call->remote; i++)
        call->counts[i] = (int)call->count, call->places[i] = i * (int)call->count;
    if (vector)
        CALL(call, Allgatherv, Iallgatherv, out, (int)call->count, MPI_LONG, in, call->counts,
             call->places, MPI_LONG, call->comm);
    else
        CALL(call, Allgather, Iallgather, out, (int)call->count, MPI_LONG, in, (int)call->count,
             MPI_LONG, call->comm);
    for (i = 0; i < call->remote; i++)
        block_verify(call, in + (size_t)i * call->count, i, 0, "allgather");
    check_untouched(in, n * call->count * sizeof(long), n * call->count * sizeof(long),
                    "allgather");
    free(in);
    free(out);
}

static void run_alltoall(struct call *call)
{
    size_t n = (size_t)call->remote;
    long *in = block_new(n * call->count), *out = block_new(n * call->count);
    MPI_Datatype types[64];
    int i, bytes[64];

    for (i = 0; i < call->remote; i++) {
        block_fill(call, out + (size_t)i * call->count, i);
        call->counts[i] = (int)call->count;
        call->places[i] = i * (int)call->count;
        bytes[i] = call->places[i] * (int)sizeof(long);
        types[i] = MPI_LONG;
    }
    if (call->serial % 3 == 0)
        CALL(call, Alltoall, Ialltoall, out, (int)call->count, MPI_LONG, in, (int)call->count,
             MPI_LONG, call->comm);
    else if (call->serial % 3 == 1)
        CALL(call, Alltoallv, Ialltoallv, out, call->counts, call->places, MPI_LONG, in,
             call->counts, call->places, MPI_LONG, call->comm);
    else
        CALL(call, Alltoallw, Ialltoallw, out, call->counts, bytes, types, in, call->counts, bytes,
             types, call->comm);
    for (i = 0; i < call->remote; i++)
        block_verify(call, in + (size_t)i * call->count, i, call->rank, "alltoall");
    check_untouched(in, n * call->count * sizeof(long), n * call->count * sizeof(long), "alltoall");
    free(in);
    free(out);
}

static void run_reduce_scatter(struct call *call)
{
    size_t n = (size_t)call->ranks;
    long *in = block_new(call->count), *out = block_new(n * call->count);
    struct call whole = *call;
    int i;

    if (call->inter) /* its counts differ between the groups; the rest is allreduce */
        goto end;
    whole.count = n * call->count;
    block_fill(&whole, out, 0);
    for (i = 0; i < call->ranks; i++)
        call->counts[i] = (int)call->count;
    if (call->serial % 2)
        CALL(call, Reduce_scatter, Ireduce_scatter, out, in, call->counts, MPI_LONG, MPI_SUM,
             call->comm);
    else
        CALL(call, Reduce_scatter_block, Ireduce_scatter_block, out, in, (int)call->count, MPI_LONG,
             MPI_SUM, call->comm);
    sum_verify(call, in, (size_t)call->rank * call->count, call->count, call->ranks, 0,
               "reduce_scatter");
end:
    free(in);
    free(out);
}

static void run_scan(struct call *call)
{
    long *in = block_new(call->count), *out = block_new(call->count);
    bool exclusive = call->serial % 2;

    if (!call->inter) {
        block_fill(call, out, 0);
        if (exclusive)
            CALL(call, Exscan, Iexscan, out, in, (int)call->count, MPI_LONG, MPI_SUM, call->comm);
        else
            CALL(call, Scan, Iscan, out, in, (int)call->count, MPI_LONG, MPI_SUM, call->comm);
        if (!exclusive || call->rank > 0)
            sum_verify(call, in, 0, call->count, call->rank + !exclusive, 0, "scan");
    }
    free(in);
    free(out);
}

/* With the neighbours in a ring that wraps round. */
static void run_neighbors(struct call *call)
{
    long *in = block_new(2 * call->count), *out = block_new(2 * call->count);
    int periodic = 1, below, above;
    struct call ring = *call;

    if (!call->inter) {
        MPI_Cart_create(call->comm, 1, &call->ranks, &periodic, 0, &ring.comm);
        MPI_Cart_shift(ring.comm, 0, 1, &below, &above);
        block_fill(call, out, 0);
        CALL(&ring, Neighbor_allgather, Ineighbor_allgather, out, (int)call->count, MPI_LONG, in,
             (int)call->count, MPI_LONG, ring.comm);
        block_verify(call, in, below, 0, "neighbor_allgather");
        block_verify(call, in + call->count, above, 0, "neighbor_allgather");
        block_fill(call, out, 1);
        block_fill(call, out + call->count, 2);
        CALL(&ring, Neighbor_alltoall, Ineighbor_alltoall, out, (int)call->count, MPI_LONG, in,
             (int)call->count, MPI_LONG, ring.comm);
        /* In a ring of two, both neighbours are the same, and MPI does not say which block is
         * which. */
        if (call->ranks > 2) {
            block_verify(call, in, below, 2, "neighbor_alltoall");
            block_verify(call, in + call->count, above, 1, "neighbor_alltoall");
        }
        MPI_Comm_free(&ring.comm);
    }
    free(in);
    free(out);
}

static void (*const collectives[])(struct call *) = {
    run_barrier,   run_bcast,    run_reduce,         run_allreduce, run_gather,   run_scatter,
    run_allgather, run_alltoall, run_reduce_scatter, run_scan,      run_neighbors};

static void comm_run(MPI_Comm comm, bool inter, uint64_t serial)
{
    struct call call = {.comm = comm, .inter = inter};
    uint64_t sequence = check_sequence(serial, 1);
    size_t i, bytes;

    MPI_Comm_rank(comm, &call.rank);
    MPI_Comm_size(comm, &call.ranks);
    call.remote = call.ranks;
    if (inter)
        MPI_Comm_remote_size(comm, &call.remote);
    for (i = 0; i < CHECK_LENGTH(collectives); i++) {
        call.serial = serial * 16 + check_draw(&sequence) % 16;
        bytes = check_draw_size(&sequence, COUNT_MAXIMUM * sizeof(long));
        call.count = 1 + bytes / sizeof(long) / (size_t)check.ranks;
        call.immediate = check_draw(&sequence) % 2;
        call.in_place = check_draw(&sequence) % 2;
        call.root = (int)(check_draw(&sequence) % (unsigned)call.ranks);
        collectives[i](&call);
    }
}

/* Several non-blocking collectives of one communicator under way at once, and messages between
 * them. */
static void overlap_run(MPI_Comm comm, uint64_t serial)
{
    enum { CALLS = 6 };
    struct call call = {.comm = comm, .serial = serial, .count = 20000};
    long *in[CALLS], *out[CALLS];
    MPI_Request requests[CALLS + 1];
    int i;

    MPI_Comm_rank(comm, &call.rank);
    MPI_Comm_size(comm, &call.ranks);
    for (i = 0; i < CALLS; i++) {
        in[i] = block_new(call.count);
        out[i] = block_new(call.count);
        block_fill(&call, out[i], i);
        MPI_Iallreduce(out[i], in[i], (int)call.count, MPI_LONG, MPI_SUM, comm, &requests[i]);
    }
    MPI_Ibarrier(comm, &requests[CALLS]);
    MPI_Waitall(CALLS + 1, requests, MPI_STATUSES_IGNORE);
    for (i = 0; i < CALLS; i++) {
        sum_verify(&call, in[i], 0, call.count, call.ranks, i, "overlapping allreduce");
        free(in[i]);
        free(out[i]);
    }
}

int main(int argc, char **argv)
{
    MPI_Comm world, reversed, half, inter;
    uint64_t serial = 0;

    check_start(argc, argv, MPI_THREAD_SINGLE);
    CHECK(check.ranks > 1 && check.ranks <= 64, "2 to 64 ranks are needed");
    MPI_Comm_dup(MPI_COMM_WORLD, &world);
    MPI_Comm_split(world, 0, -check.rank, &reversed);
    MPI_Comm_split(world, check.rank % 2, check.rank, &half);
    MPI_Intercomm_create(half, 0, world, check.rank % 2 ? 0 : 1, 1, &inter);
    while (check_continue()) {
        comm_run(world, false, ++serial);
        comm_run(reversed, false, ++serial);
        comm_run(half, false, ++serial);
        comm_run(inter, true, ++serial);
        overlap_run(world, ++serial);
    }
    MPI_Comm_free(&inter);
    MPI_Comm_free(&half);
    MPI_Comm_free(&reversed);
    MPI_Comm_free(&world);
    return check_finish();
}
