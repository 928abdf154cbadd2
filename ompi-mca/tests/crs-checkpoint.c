/*
 * Two ranks that exchange messages until file argv[2] exists; with argv[1] "take", rank 0 takes a
 * checkpoint of itself first, through Open MPI's own entry, and prints how it ended.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "opal_config.h"

#include "opal/mca/crs/base/base.h"
#include "opal/runtime/opal_cr.h"

#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One exchange; returns whether to go on, as rank 0 says. */
static int exchange(int rank, int on, unsigned *number)
{
    unsigned values[2] = {(unsigned)on, ++*number}, got[2] = {0, 0};

    if (rank == 0) {
        MPI_Send(values, 2, MPI_UNSIGNED, 1, 0, MPI_COMM_WORLD);
        MPI_Recv(got, 2, MPI_UNSIGNED, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else {
        MPI_Recv(got, 2, MPI_UNSIGNED, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        on = (int)got[0];
        MPI_Send(values, 2, MPI_UNSIGNED, 0, 0, MPI_COMM_WORLD);
    }
    if (got[1] != *number) {
        printf("message %u came for %u\n", got[1], *number);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    return on;
}

static void take_checkpoint(void)
{
    opal_crs_base_snapshot_t *snapshot = OBJ_NEW(opal_crs_base_snapshot_t);
    opal_crs_base_ckpt_options_t *options = OBJ_NEW(opal_crs_base_ckpt_options_t);
    int state = OPAL_CRS_NONE;
    int rc = opal_cr_inc_core_ckpt(getpid(), snapshot, options, &state);

    printf("state %s, returned %d, Open MPI's own state %s\n",
           state == OPAL_CRS_CONTINUE ? "CONTINUE" : "ERROR", rc,
           opal_cr_checkpointing_state == OPAL_CR_STATUS_CONTINUE ? "CONTINUE" : "other");
    fflush(stdout);
    OBJ_RELEASE(options);
    OBJ_RELEASE(snapshot);
}

int main(int argc, char **argv)
{
    unsigned number = 0;
    double until;
    int rank, on = 1;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    /* So that the link is on the fabric. */
    for (until = MPI_Wtime() + 1; on;)
        on = exchange(rank, MPI_Wtime() < until, &number);
    if (rank == 0 && strcmp(argv[1], "take") == 0)
        take_checkpoint();
    for (on = 1; on; usleep(1000))
        on = exchange(rank, access(argv[2], F_OK) != 0, &number);
    MPI_Finalize();
    return 0;
}
