/* Collective operations whose results every rank can work out by itself.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "soak.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Returns what rank 'rank' puts into place 'index'. */
static uint64_t value_of(const struct soak *soak, int rank, size_t index)
{
    return soak_mix(soak->plan.seed ^ soak_mix(soak->batch) ^ ((uint64_t)rank << 40) ^ index);
}

static void result_check(struct soak *soak, const char *name, bool right)
{
    soak->counters.collectives++;
    if (!right) {
        soak->counters.corrupt++;
        fprintf(stderr, "ninja-soak: CORRUPT: rank %d, batch %" PRIu64 ": result of %s is wrong\n",
                soak->rank, soak->batch, name);
    }
    soak_work_done(soak);
}

static bool run_allreduce(struct soak *soak, uint64_t *mine, uint64_t *result, size_t count)
{
    uint64_t sum;
    bool right = true;
    size_t i;
    int rank;

    for (i = 0; i < count; i++)
        mine[i] = value_of(soak, soak->rank, i);
    MPI_Allreduce(mine, result, (int)count, MPI_UINT64_T, MPI_SUM, soak->control);
    for (i = 0; i < count; i++) {
        for (sum = 0, rank = 0; rank < soak->ranks; rank++)
            sum += value_of(soak, rank, i);
        right &= result[i] == sum;
    }
    return right;
}

static bool run_bcast(struct soak *soak, uint64_t *data, size_t count)
{
    int root = (int)(soak_mix(soak->batch) % (uint64_t)soak->ranks);
    bool right = true;
    size_t i;

    for (i = 0; i < count; i++)
        data[i] = soak->rank == root ? value_of(soak, root, i) : 0;
    MPI_Bcast(data, (int)count, MPI_UINT64_T, root, soak->control);
    for (i = 0; i < count; i++)
        right &= data[i] == value_of(soak, root, i);
    return right;
}

static bool run_alltoall(struct soak *soak, uint64_t *mine, uint64_t *result, size_t count)
{
    size_t each = count / (size_t)soak->ranks, i;
    bool right = true;
    int rank;

    for (i = 0; i < each * (size_t)soak->ranks; i++)
        mine[i] = value_of(soak, soak->rank, i);
    MPI_Alltoall(mine, (int)each, MPI_UINT64_T, result, (int)each, MPI_UINT64_T, soak->control);
    for (rank = 0; rank < soak->ranks; rank++)
        for (i = 0; i < each; i++)
            right &= result[(size_t)rank * each + i] ==
                     value_of(soak, rank, (size_t)soak->rank * each + i);
    return right;
}

void soak_collective_run(struct soak *soak)
{
    static const size_t counts[] = {1, 100, 4000, 20000};
    uint64_t choice = soak->batch / SOAK_COLLECTIVE_EVERY;
    size_t count = counts[choice / 4 % 4], room;
    uint64_t *mine, *result;

    if (count * sizeof *mine > soak->plan.max_size)
        count = 1;
    room = count < (size_t)soak->ranks ? (size_t)soak->ranks : count;
    mine = calloc(room, sizeof *mine);
    result = calloc(room, sizeof *result);
    if (!mine || !result) {
        fprintf(stderr, "ninja-soak: out of memory\n");
        exit(1);
    }
    soak->doing = "in a collective operation";
    switch (choice % 4) {
    case 0:
        result_check(soak, "MPI_Allreduce", run_allreduce(soak, mine, result, count));
        break;
    case 1:
        result_check(soak, "MPI_Bcast", run_bcast(soak, mine, count));
        break;
    case 2:
        result_check(soak, "MPI_Alltoall", run_alltoall(soak, mine, result, room));
        break;
    default:
        MPI_Barrier(soak->control);
        result_check(soak, "MPI_Barrier", true);
    }
    free(mine);
    free(result);
}
