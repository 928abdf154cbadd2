/*
 * Rank 1 announces large messages and stays outside MPI while rank 0 fetches them, some at once and
 * some after a silence: rank 1's control thread alone can answer. Started with 2 ranks of one
 * machine; fails if rank 0 does not get them while rank 1 is away.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MESSAGES 6
#define BYTES    (1 << 20)
#define ROUNDS   3
/* Rank 1 goes back to MPI after so many seconds in any case. */
#define LIMIT_S 15

static char buffers[MESSAGES][BYTES];

static void fail(const char *what)
{
    printf("FAILED: %s\n", what);
    fflush(stdout);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

/* Fetches all messages and lets rank 1, which is process `peer`, go back. */
static void fetch(pid_t peer)
{
    const struct timespec silence = {.tv_nsec = 300000000};

    for (int i = 0; i < MESSAGES; i++) {
        if (i >= MESSAGES / 2)
            nanosleep(&silence, NULL);
        memset(buffers[i], 0, BYTES);
        MPI_Recv(buffers[i], BYTES, MPI_BYTE, 1, i, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        for (int j = 0; j < BYTES; j++)
            if (buffers[i][j] != (char)(i + 1))
                fail("the data are wrong");
    }
    if (kill(peer, SIGUSR2) != 0)
        fail("rank 1 cannot be called back");
}

/* Announces all messages, and is outside MPI until rank 0 has them. */
static void stay_outside(const sigset_t *call)
{
    const struct timespec limit = {.tv_sec = LIMIT_S};
    MPI_Request requests[MESSAGES];

    for (int i = 0; i < MESSAGES; i++) {
        memset(buffers[i], i + 1, BYTES);
        MPI_Isend(buffers[i], BYTES, MPI_BYTE, 0, i, MPI_COMM_WORLD, &requests[i]);
    }
    if (sigtimedwait(call, NULL, &limit) != SIGUSR2)
        fail("a message was not fetched while its sender was outside MPI");
    MPI_Waitall(MESSAGES, requests, MPI_STATUSES_IGNORE);
}

int main(int argc, char **argv)
{
    int rank, pid = (int)getpid(), pids[2];
    sigset_t call;

    sigemptyset(&call);
    sigaddset(&call, SIGUSR2);
    sigprocmask(SIG_BLOCK, &call, NULL);
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Allgather(&pid, 1, MPI_INT, pids, 1, MPI_INT, MPI_COMM_WORLD);
    for (int i = 0; i < ROUNDS; i++) {
        MPI_Barrier(MPI_COMM_WORLD);
        if (rank == 0)
            fetch(pids[1]);
        else
            stay_outside(&call);
    }
    if (rank == 0)
        printf("ok: %d messages fetched from a rank outside MPI\n", ROUNDS * MESSAGES);
    MPI_Finalize();
    return 0;
}
