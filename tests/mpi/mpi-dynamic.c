/* Dynamic processes: children are started, spoken with and left again; halves of a job find each
 * other by a port. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "mpi-check.h"

#include <stdio.h>
#include <stdlib.h>

#define CHILDREN     3
#define SIZE_MAXIMUM ((size_t)1 << 20)
#define EXCHANGES    6

/* The contents of what rank 'from' of one group sends to rank 'to' of the other. */
static uint64_t key_of(uint64_t serial, bool first, int from, int to)
{
    return check_sequence(serial, (uint64_t)first << 20 | (unsigned)from << 8 | (unsigned)to);
}

/* With each rank of the other group, both ways; parents and children agree on size and contents by
 * the seed. */
static void exchange(MPI_Comm inter, bool first, uint64_t serial)
{
    uint64_t sequence = check_sequence(serial, 3);
    size_t size = check_draw_size(&sequence, SIZE_MAXIMUM);
    unsigned char *out[CHILDREN], *in[CHILDREN];
    MPI_Request requests[2 * CHILDREN];
    MPI_Status status[2 * CHILDREN];
    /* Some may be an exchange ahead. */
    int peer, remote, mine, tag = (int)(serial & 0xff);

    MPI_Comm_rank(inter, &mine);
    MPI_Comm_remote_size(inter, &remote);
    CHECK(remote <= CHILDREN, "%d ranks in the other group", remote);
    for (peer = 0; peer < remote; peer++) {
        out[peer] = check_buffer(size);
        in[peer] = check_buffer(size);
        check_fill(out[peer], size, key_of(serial, first, mine, peer));
        MPI_Isend(out[peer], (int)size, MPI_BYTE, peer, tag, inter, &requests[remote + peer]);
        MPI_Irecv(in[peer], (int)size, MPI_BYTE, MPI_ANY_SOURCE, tag, inter, &requests[peer]);
    }
    MPI_Waitall(2 * remote, requests, status);
    for (peer = 0; peer < remote; peer++) {
        int source = status[peer].MPI_SOURCE;

        check_status(&status[peer], source, tag, size, "between groups");
        check_verify(in[peer], size, key_of(serial, !first, source, mine), "between groups");
        check_untouched(in[peer], size, size, "between groups");
        free(in[peer]);
        free(out[peer]);
    }
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
    MPI_Comm_free(&merged);
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

    snprintf(seed, sizeof seed, "%llu", (unsigned long long)check.seed);
    MPI_Comm_spawn(program, arguments, CHILDREN, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &inter, errors);
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
