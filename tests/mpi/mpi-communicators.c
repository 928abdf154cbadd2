/* Communicators of all makes: messages with the same tags in many of them at once never mix.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "mpi-check.h"

#include <stdlib.h>

#define COMMS_MAX    16
#define SIZE_MAXIMUM ((size_t)200 << 10)

/* The communicators that this rank is in. */
struct set {
    MPI_Comm comms[COMMS_MAX];
    const char *names[COMMS_MAX];
    int count;
    uint64_t serial;
};

static void set_add(struct set *set, MPI_Comm comm, const char *name)
{
    if (comm == MPI_COMM_NULL)
        return;
    CHECK(set->count < COMMS_MAX, "too many communicators");
    set->comms[set->count] = comm;
    set->names[set->count++] = name;
}

static void set_make_parts(struct set *set)
{
    MPI_Comm comm;
    MPI_Group all, some;
    MPI_Request request;
    int half[2] = {0, check.ranks - 1};

    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    set_add(set, comm, "duplicate");
    MPI_Comm_idup(MPI_COMM_WORLD, &comm, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    set_add(set, comm, "duplicate, non-blocking");
    MPI_Comm_split(MPI_COMM_WORLD, check.rank % 2, -check.rank, &comm);
    set_add(set, comm, "odd or even ranks");
    MPI_Comm_split(MPI_COMM_WORLD, check.rank == 0 ? MPI_UNDEFINED : 1, check.rank, &comm);
    set_add(set, comm, "all but rank 0");
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, check.rank, MPI_INFO_NULL, &comm);
    set_add(set, comm, "ranks of one host");
    MPI_Comm_group(MPI_COMM_WORLD, &all);
    MPI_Group_incl(all, 2, half, &some);
    MPI_Comm_create(MPI_COMM_WORLD, some, &comm);
    set_add(set, comm, "first and last");
    comm = MPI_COMM_NULL;
    if (check.rank == 0 || check.rank == check.ranks - 1)
        MPI_Comm_create_group(MPI_COMM_WORLD, some, 5, &comm);
    set_add(set, comm, "first and last, made by themselves");
    MPI_Group_free(&some);
    MPI_Group_free(&all);
}

static void set_make_topologies(struct set *set)
{
    int sizes[2] = {0, 0}, periods[2] = {1, 0}, keep[2] = {1, 0};
    int n = check.ranks, neighbor = (check.rank + 1) % n, source = (check.rank + n - 1) % n;
    int weight = 1;
    MPI_Comm grid, comm;

    MPI_Dims_create(n, 2, sizes);
    MPI_Cart_create(MPI_COMM_WORLD, 2, sizes, periods, 1, &grid);
    set_add(set, grid, "grid");
    MPI_Cart_sub(grid, keep, &comm);
    set_add(set, comm, "column of a grid");
    MPI_Dist_graph_create_adjacent(MPI_COMM_WORLD, 1, &source, &weight, 1, &neighbor, &weight,
                                   MPI_INFO_NULL, 0, &comm);
    set_add(set, comm, "graph");
}

static void set_make_inter(struct set *set)
{
    MPI_Comm half, inter, merged;

    MPI_Comm_split(MPI_COMM_WORLD, check.rank % 2, check.rank, &half);
    MPI_Intercomm_create(half, 0, MPI_COMM_WORLD, check.rank % 2 ? 0 : 1, 6, &inter);
    set_add(set, inter, "two groups");
    MPI_Intercomm_merge(inter, check.rank % 2, &merged);
    set_add(set, merged, "two groups merged");
    MPI_Comm_free(&half);
}

/* Where a message of this rank in 'comm' goes, and where one comes from: next rank, same of the
 * other group. */
static void neighbors_of(MPI_Comm comm, int *to, int *from, int *mine)
{
    int inter, rank, ranks, remote;

    MPI_Comm_test_inter(comm, &inter);
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &ranks);
    *mine = rank;
    if (!inter) {
        *to = (rank + 1) % ranks;
        *from = (rank + ranks - 1) % ranks;
        return;
    }
    MPI_Comm_remote_size(comm, &remote);
    *to = *from = rank < remote ? rank : MPI_PROC_NULL;
}

/* The same tag in all communicators at once, and received in another order. */
static void exchange(struct set *set)
{
    MPI_Request sends[COMMS_MAX], receives[COMMS_MAX];
    unsigned char *in[COMMS_MAX], *out[COMMS_MAX];
    MPI_Status status[COMMS_MAX];
    uint64_t sequence;
    int i, to[COMMS_MAX], from[COMMS_MAX], mine;
    size_t size[COMMS_MAX];

    set->serial++;
    for (i = 0; i < set->count; i++) {
        /* All that are in a communicator must name it alike, whatever else they are in. */
        sequence = check_sequence(set->serial,
                                  (uint64_t)set->names[i][0] << 8 | (uint64_t)set->names[i][3]);
        size[i] = check_draw_size(&sequence, SIZE_MAXIMUM);
        neighbors_of(set->comms[i], &to[i], &from[i], &mine);
        in[i] = check_buffer(size[i]);
        out[i] = check_buffer(size[i]);
        check_fill(out[i], size[i], check_sequence(sequence, (unsigned)mine));
        MPI_Isend(out[i], (int)size[i], MPI_BYTE, to[i], 9, set->comms[i], &sends[i]);
    }
    for (i = set->count - 1; i >= 0; i--)
        MPI_Irecv(in[i], (int)size[i], MPI_BYTE, from[i], 9, set->comms[i], &receives[i]);
    MPI_Waitall(set->count, receives, status);
    MPI_Waitall(set->count, sends, MPI_STATUSES_IGNORE);
    for (i = 0; i < set->count; i++) {
        sequence = check_sequence(set->serial,
                                  (uint64_t)set->names[i][0] << 8 | (uint64_t)set->names[i][3]);
        check_draw_size(&sequence, SIZE_MAXIMUM);
        if (from[i] != MPI_PROC_NULL) {
            check_status(&status[i], from[i], 9, size[i], set->names[i]);
            check_verify(in[i], size[i], check_sequence(sequence, (unsigned)from[i]),
                         set->names[i]);
        }
        check_untouched(in[i], from[i] == MPI_PROC_NULL ? 0 : size[i], size[i], set->names[i]);
        free(in[i]);
        free(out[i]);
    }
}

/* Each communicator's own sum is that of its own ranks. */
static void sums_run(struct set *set)
{
    int i, inter, ranks, one = 1, sum;

    for (i = 0; i < set->count; i++) {
        MPI_Comm_test_inter(set->comms[i], &inter);
        (inter ? MPI_Comm_remote_size : MPI_Comm_size)(set->comms[i], &ranks);
        MPI_Allreduce(&one, &sum, 1, MPI_INT, MPI_SUM, set->comms[i]);
        CHECK(sum == ranks, "%s: %d ranks, not %d", set->names[i], sum, ranks);
    }
}

int main(int argc, char **argv)
{
    struct set set = {0};
    int i;

    check_start(argc, argv, MPI_THREAD_SINGLE);
    CHECK(check.ranks > 1, "at least two ranks are needed");
    while (check_continue()) {
        set.count = 0;
        set_make_parts(&set);
        set_make_topologies(&set);
        set_make_inter(&set);
        for (i = 0; i < 4; i++)
            exchange(&set);
        sums_run(&set);
        for (i = 0; i < set.count; i++)
            MPI_Comm_free(&set.comms[i]);
    }
    return check_finish();
}
