/* Measures latency, bandwidth and message rate between two ranks for bench-btl, as CSV lines.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW 64
#define BLOCKS 5

/* usage: btl-probe MILLISECONDS MAX_SIZE; prints METRIC,BYTES,VALUE lines. */

typedef void (*measure_fn)(int rank, char *data, int size, long count);

/* 'count' round trips. */
static void ping_pong(int rank, char *data, int size, long count)
{
    for (; count > 0; count--) {
        if (rank == 0) {
            MPI_Send(data, size, MPI_BYTE, 1, 1, MPI_COMM_WORLD);
            MPI_Recv(data, size, MPI_BYTE, 1, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else {
            MPI_Recv(data, size, MPI_BYTE, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(data, size, MPI_BYTE, 0, 1, MPI_COMM_WORLD);
        }
    }
}

/* 'count' windows of messages one way, each answered by an empty message. */
static void windows(int rank, char *data, int size, long count)
{
    MPI_Request requests[WINDOW];
    int i;

    for (; count > 0; count--) {
        for (i = 0; i < WINDOW; i++) {
            if (rank == 0)
                MPI_Isend(data, size, MPI_BYTE, 1, 2, MPI_COMM_WORLD, &requests[i]);
            else
                MPI_Irecv(data, size, MPI_BYTE, 0, 2, MPI_COMM_WORLD, &requests[i]);
        }
        MPI_Waitall(WINDOW, requests, MPI_STATUSES_IGNORE);
        if (rank == 0)
            MPI_Recv(NULL, 0, MPI_BYTE, 1, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        else
            MPI_Send(NULL, 0, MPI_BYTE, 0, 3, MPI_COMM_WORLD);
    }
}

/* Runs 'measure' for about 'seconds'; returns the seconds of each of its steps (at rank 0). The
 * time is cut into blocks of which the fastest counts: on a machine with other work the others tell
 * how long ranks waited for a processor. */
static double timed(measure_fn measure, int rank, char *data, int size, double seconds)
{
    double start, each, fastest = 1e9;
    long count = 1;
    int block;

    /* The warm-up finds how many steps fit into the time; both ranks must know. */
    measure(rank, data, size, 1);
    for (;;) {
        start = MPI_Wtime();
        measure(rank, data, size, count);
        each = (MPI_Wtime() - start) / (double)count;
        MPI_Bcast(&each, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
        if (each * (double)count >= seconds / BLOCKS / 4)
            break;
        count *= 2;
    }
    count = (long)(seconds / BLOCKS / each) + 1;
    for (block = 0; block < BLOCKS; block++) {
        MPI_Barrier(MPI_COMM_WORLD);
        start = MPI_Wtime();
        measure(rank, data, size, count);
        each = (MPI_Wtime() - start) / (double)count;
        if (each < fastest)
            fastest = each;
    }
    return fastest;
}

int main(int argc, char **argv)
{
    static const int sizes[] = {0,    1,     8,     64,     256,     1024,
                                4096, 16384, 65536, 262144, 1048576, 4194304};
    double seconds = argc > 1 ? atof(argv[1]) / 1e3 : 0.05, each;
    int max = argc > 2 ? atoi(argv[2]) : 4194304, rank, ranks;
    size_t i;
    char *data;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    data = malloc((size_t)max + 1);
    if (ranks != 2 || !data || seconds <= 0) {
        fprintf(stderr, "btl-probe: needs two ranks: btl-probe MILLISECONDS MAX_SIZE\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
        return 2;
    }
    memset(data, 1, (size_t)max + 1);
    for (i = 0; i < sizeof sizes / sizeof *sizes && sizes[i] <= max; i++) {
        each = timed(ping_pong, rank, data, sizes[i], seconds);
        if (rank == 0)
            printf("latency_us,%d,%.3f\n", sizes[i], each / 2 * 1e6);
        each = timed(windows, rank, data, sizes[i], seconds);
        if (rank == 0) {
            printf("rate_per_s,%d,%.0f\n", sizes[i], WINDOW / each);
            printf("bandwidth_MBps,%d,%.3f\n", sizes[i], WINDOW * (double)sizes[i] / each / 1e6);
        }
    }
    free(data);
    MPI_Finalize();
    return 0;
}
