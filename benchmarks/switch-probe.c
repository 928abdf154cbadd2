/* Makes traffic between pairs of ranks and writes when each of them stood still, for bench-switch.
 * SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* usage: switch-probe idle|latency|bandwidth SECONDS
 *
 * Rank 2k and rank 2k + 1 exchange messages: idle, 8 bytes every 2 ms; latency, 8 bytes back and
 * forth; bandwidth, 256 KiB with 8 of them under way. Rank 0 prints, for each slot of time in which
 * there was a gap, the longest one of all pairs: MILLISECONDS_SINCE_1970,GAP_US. A gap is the time
 * from one message's arrival to the next one's, without the sleep of `idle`; it is counted in all
 * slots that it covers. With more ranks than processors, ranks sleep while they wait. */

#define SLOT_MS 1
#define BURST   8
#define LARGE   (256 << 10)

static double *slots; /* the longest gap in each slot, in microseconds */
static long slot_count;
static double origin; /* seconds since 1970 at the first slot */
static int polite;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void pause_us(long microseconds)
{
    struct timespec t = {0, microseconds * 1000};

    nanosleep(&t, NULL);
}

static void note_gap(double from, double to)
{
    long first = (long)((from - origin) * 1000 / SLOT_MS);
    long last = (long)((to - origin) * 1000 / SLOT_MS);

    for (; first <= last; first++)
        if (first >= 0 && first < slot_count && slots[first] < (to - from) * 1e6)
            slots[first] = (to - from) * 1e6;
}

static void wait_for(MPI_Request *request)
{
    int done = 0;

    if (!polite) {
        MPI_Wait(request, MPI_STATUS_IGNORE);
        return;
    }
    for (;;) {
        MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (done)
            return;
        pause_us(100);
    }
}

static void exchange(int peer, char *data, int first)
{
    MPI_Request request;

    if (first)
        MPI_Send(data, 8, MPI_BYTE, peer, 1, MPI_COMM_WORLD);
    MPI_Irecv(data, 8, MPI_BYTE, peer, 1, MPI_COMM_WORLD, &request);
    wait_for(&request);
    if (!first)
        MPI_Send(data, 8, MPI_BYTE, peer, 1, MPI_COMM_WORLD);
}

/* Rounds until `end`; data[0] of a message says whether another one follows. */
static void small_messages(int rank, int peer, char *data, double end, long sleep_us)
{
    int first = rank < peer;
    double last = now(), arrived;

    do {
        if (first) {
            if (sleep_us > 0) {
                pause_us(sleep_us);
                last = now();
            }
            data[0] = now() < end;
        }
        exchange(peer, data, first);
        arrived = now();
        if (first)
            note_gap(last, arrived);
        last = arrived;
    } while (data[0]);
}

/* The first of a pair sends, the other one notes when they arrive; the first byte of each round
 * says whether another one follows. */
static void large_messages(int rank, int peer, char *data, double end)
{
    MPI_Request requests[BURST];
    int first = rank < peer, i;
    double last = now(), arrived;
    char more;

    do {
        if (first)
            data[0] = now() < end;
        for (i = 0; i < BURST; i++) {
            if (first)
                MPI_Isend(data + (size_t)i * LARGE, LARGE, MPI_BYTE, peer, 2, MPI_COMM_WORLD,
                          &requests[i]);
            else
                MPI_Irecv(data + (size_t)i * LARGE, LARGE, MPI_BYTE, peer, 2, MPI_COMM_WORLD,
                          &requests[i]);
        }
        for (i = 0; i < BURST; i++) {
            wait_for(&requests[i]);
            arrived = now();
            if (!first)
                note_gap(last, arrived);
            last = arrived;
        }
        more = data[0];
    } while (more);
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "";
    double seconds = argc > 2 ? atof(argv[2]) : 0, start;
    int rank, ranks, peer;
    double *all;
    char *data;
    long i;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    slot_count = (long)((seconds + 5) * 1000 / SLOT_MS);
    slots = calloc((size_t)slot_count, sizeof *slots);
    all = calloc((size_t)slot_count, sizeof *all);
    data = calloc(BURST, LARGE);
    if (ranks % 2 || seconds <= 0 || !slots || !all || !data) {
        fprintf(stderr,
                "switch-probe: switch-probe idle|latency|bandwidth SECONDS, with pairs of ranks\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
        return 2;
    }
    polite = ranks > 2;
    peer = rank ^ 1;
    /* Everybody talks to everybody once, so that all links exist. */
    MPI_Alltoall(data, 8, MPI_BYTE, data + LARGE, 8, MPI_BYTE, MPI_COMM_WORLD);
    memset(data, 0, (size_t)BURST * LARGE);
    start = now();
    MPI_Bcast(&start, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    origin = start;
    if (rank == 0) {
        fprintf(stderr, "switch-probe: ready\n");
        fflush(stderr);
    }
    if (strcmp(kind, "bandwidth") == 0)
        large_messages(rank, peer, data, start + seconds);
    else
        small_messages(rank, peer, data, start + seconds, strcmp(kind, "idle") == 0 ? 2000 : 0);
    MPI_Reduce(slots, all, (int)slot_count, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    for (i = 0; rank == 0 && i < slot_count; i++)
        if (all[i] > 0)
            printf("%.0f,%.1f\n", (origin * 1000) + (double)i * SLOT_MS, all[i]);
    free(data);
    free(all);
    free(slots);
    MPI_Finalize();
    return 0;
}
