/* Dynamic processes: children are started, spoken with and left again; halves of a job find each
 * other by a port. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "mpi-check.h"

#include <stdio.h>
#include <stdlib.h>

#define CHILDREN     3
#define SIZE_MAXIMUM ((size_t)1 << 20)
#define EXCHANGES    6

/* With each rank of the other group, both ways, sizes and contents by the seed; parents and
 * children agree on them. */
static void exchange(MPI_Comm inter, bool first, uint64_t serial)
{
    uint64_t sequence = check_sequence(serial, 3);
    size_t size = check_draw_size(&sequence, SIZE_MAXIMUM);
    unsigned char *out = check_buffer(size), *in = check_buffer(size);
    MPI_Request requests[2];
    MPI_Status status[2];
    int rank, remote, peer, mine;

    MPI_Comm_rank(inter, &mine);
    MPI_Comm_remote_size(inter, &remote);
    for (rank = 0; rank < remote; rank++) {
        /* The same order at both ends is not needed: all is non-blocking until here. */
        peer = (mine + rank) % remote;
        check_poison(in, size);
        check_fill(
            out, size,
            check_sequence(serial, (uint64_t)first << 20 | (unsigned)mine << 8 | (unsigned)peer));
        MPI_Isend(out, (int)size, MPI_BYTE, peer, 1, inter, &requests[0]);
        MPI_Irecv(in, (int)size, MPI_BYTE, MPI_ANY_SOURCE, 1, inter, &requests[1]);
        MPI_Waitall(2, requests, status);
        check_status(&status[1], status[1].MPI_SOURCE, 1, size, "between groups");
        check_verify(in, size,
                     check_sequence(serial, (uint64_t)!first << 20 |
                                                (unsigned)status[1].MPI_SOURCE << 8 |
                                                (unsigned)mine),
                     "between groups");
        check_untouched(in, size, size, "between groups");
    }
    free(out);
    free(in);
}

/* All ranks of both groups as one: a sum, and a broadcast from the last one. */
static void merged_run(MPI_Comm inter, bool high, uint64_t serial)
{
    MPI_Comm merged;
    int rank, ranks, sum;
    size_t size = 100000;
    unsigned char *data = check_buffer(size);

    MPI_Intercomm_merge(inter, high, &merged);
    MPI_Comm_rank(merged, &rank);
    MPI_Comm_size(merged, &ranks);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, merged);
    CHECK(sum == ranks * (ranks - 1) / 2, "the sum over %d ranks is %d", ranks, sum);
    if (rank == ranks - 1)
        check_fill(data, size, check_sequence(serial, 4));
    MPI_Bcast(data, (int)size, MPI_BYTE, ranks - 1, merged);
    check_verify(data, size, check_sequence(serial, 4), "broadcast to parents and children");
    free(data);
    MPI_Comm_disconnect(&merged);
}

static void groups_run(MPI_Comm inter, bool first, uint64_t serial)
{
    int i;

    for (i = 0; i < EXCHANGES; i++)
        exchange(inter, first, serial << 8 | (unsigned)i);
    merged_run(inter, !first, serial);
}

/* Starts children of this program, and lets them go. */
static void spawn_run(const char *program, uint64_t serial)
{
    char seed[24];
    char child[] = "--child", option[] = "--seed";
    char *arguments[] = {child, option, seed, NULL};
    int errors[CHILDREN];
    MPI_Comm inter;
    MPI_Info info;

    snprintf(seed, sizeof seed, "%llu", (unsigned long long)check.seed);
    MPI_Info_create(&info);
    MPI_Info_set(info, "map_by", "node");
    MPI_Comm_spawn(program, arguments, CHILDREN, info, 0, MPI_COMM_WORLD, &inter, errors);
    MPI_Info_free(&info);
    MPI_Bcast(&serial, 1, MPI_UINT64_T, check.rank == 0 ? MPI_ROOT : MPI_PROC_NULL, inter);
    groups_run(inter, true, serial);
    MPI_Comm_disconnect(&inter);
}

static int child_run(void)
{
    MPI_Comm parents;
    uint64_t serial;

    MPI_Comm_get_parent(&parents);
    CHECK(parents != MPI_COMM_NULL, "a child without parents");
    MPI_Bcast(&serial, 1, MPI_UINT64_T, 0, parents);
    groups_run(parents, false, serial);
    MPI_Comm_disconnect(&parents);
    return check_finish();
}

/* The lower half opens a port, the upper half connects to it. */
static void connect_run(uint64_t serial)
{
    bool lower = check.rank < check.ranks / 2;
    char port[MPI_MAX_PORT_NAME] = "";
    MPI_Comm half, inter;

    MPI_Comm_split(MPI_COMM_WORLD, lower, check.rank, &half);
    if (check.rank == 0)
        MPI_Open_port(MPI_INFO_NULL, port);
    MPI_Bcast(port, sizeof port, MPI_CHAR, 0, MPI_COMM_WORLD);
    if (lower)
        MPI_Comm_accept(port, MPI_INFO_NULL, 0, half, &inter);
    else
        MPI_Comm_connect(port, MPI_INFO_NULL, 0, half, &inter);
    if (check.rank == 0)
        MPI_Close_port(port);
    groups_run(inter, lower, serial);
    MPI_Comm_disconnect(&inter);
    MPI_Comm_free(&half);
}

int main(int argc, char **argv)
{
    uint64_t serial = 0;

    check_start(argc, argv, MPI_THREAD_SINGLE);
    if (check.child)
        return child_run();
    CHECK(check.ranks > 1, "at least two ranks are needed");
    while (check_continue()) {
        spawn_run(argv[0], ++serial);
        connect_run(++serial);
    }
    return check_finish();
}
