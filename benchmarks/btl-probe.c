/* Measures latency, bandwidth, message rate and two collectives for bench-btl, as CSV lines.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <getopt.h>
#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "turns.h"

#define WINDOW       64
#define WINDOW_LEAST 2
#define BLOCKS       5
#define SLOW         20 /* a step that takes so many times the time of a point is measured once */

static const char usage[] =
    "usage: btl-probe [OPTION]...\n"
    "\n"
    "Prints METRIC,BYTES,VALUE lines. Two ranks: all metrics; more: the collectives only.\n"
    "\n"
    "  --time MS              how long each point is measured (default 50)\n"
    "  --sizes LEAST:MOST     bytes of the messages (default 0:16777216)\n"
    "  --window BYTES         fewer than 64 messages are under way if they are larger than\n"
    "                         that together (default 67108864)\n"
    "  --warm-up MS           messages are sent for so long before (default 0), so that\n"
    "                         transports that are opened by and by are there\n"
    "  --turns FILE:JOB:JOBS  FILE (4 zero bytes) is shared by JOBS such jobs, of which this is\n"
    "                         number JOB (from 0): they measure each point one after the\n"
    "                         other, while the others sleep; each machine has its FILE\n";

struct options {
    double seconds, warm_up_seconds;
    int least, most;
    char turns[256];
    int job, jobs;
};

/* Fewer messages are under way if they are larger than that together. */
static int window_bytes = 64 << 20;

typedef void (*measure_fn)(int rank, char *data, int size, long count);

/* Messages under way at once. */
static int window_of(int size)
{
    int window = size > 0 ? window_bytes / size : WINDOW;

    return window > WINDOW ? WINDOW : window < WINDOW_LEAST ? WINDOW_LEAST : window;
}

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
    int i, window = window_of(size);

    for (; count > 0; count--) {
        for (i = 0; i < window; i++) {
            if (rank == 0)
                MPI_Isend(data, size, MPI_BYTE, 1, 2, MPI_COMM_WORLD, &requests[i]);
            else
                MPI_Irecv(data, size, MPI_BYTE, 0, 2, MPI_COMM_WORLD, &requests[i]);
        }
        MPI_Waitall(window, requests, MPI_STATUSES_IGNORE);
        if (rank == 0)
            MPI_Recv(NULL, 0, MPI_BYTE, 1, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        else
            MPI_Send(NULL, 0, MPI_BYTE, 0, 3, MPI_COMM_WORLD);
    }
}

/* 'count' windows of messages both ways at once. */
static void both_ways(int rank, char *data, int size, long count)
{
    MPI_Request requests[2 * WINDOW];
    char *landing = data + size;
    int i, window = window_of(size);

    for (; count > 0; count--) {
        for (i = 0; i < window; i++) {
            MPI_Irecv(landing, size, MPI_BYTE, 1 - rank, 4, MPI_COMM_WORLD, &requests[2 * i]);
            MPI_Isend(data, size, MPI_BYTE, 1 - rank, 4, MPI_COMM_WORLD, &requests[2 * i + 1]);
        }
        MPI_Waitall(2 * window, requests, MPI_STATUSES_IGNORE);
    }
}

static void allreduce(int rank, char *data, int size, long count)
{
    for (; count > 0; count--)
        MPI_Allreduce(data, data + size, size / (int)sizeof(double), MPI_DOUBLE, MPI_SUM,
                      MPI_COMM_WORLD);
}

/* 'size' bytes from each rank to each other. */
static void alltoall(int rank, char *data, int size, long count)
{
    int ranks;

    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    for (; count > 0; count--)
        MPI_Alltoall(data, size, MPI_BYTE, data + (size_t)size * (size_t)ranks, size, MPI_BYTE,
                     MPI_COMM_WORLD);
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
        if (each >= SLOW * seconds)
            return each;
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

static void measure_latency(int rank, char *data, int size, double seconds)
{
    double each = timed(ping_pong, rank, data, size, seconds);

    if (rank == 0)
        printf("latency_us,%d,%.3f\n", size, each / 2 * 1e6);
}

static void measure_windows(int rank, char *data, int size, double seconds)
{
    double one = timed(windows, rank, data, size, seconds);
    double both = timed(both_ways, rank, data, size, seconds);
    double bytes = (double)window_of(size) * size;

    if (rank != 0)
        return;
    printf("rate_per_s,%d,%.0f\n", size, window_of(size) / one);
    if (size > 0) {
        printf("bandwidth_MBps,%d,%.3f\n", size, bytes / one / 1e6);
        printf("both_ways_MBps,%d,%.3f\n", size, 2 * bytes / both / 1e6);
    }
}

static void collectives(int rank, int ranks, char *data, int size, double seconds)
{
    double reduce = timed(allreduce, rank, data, size, seconds);
    double all = timed(alltoall, rank, data, size, seconds);

    if (rank != 0)
        return;
    printf("allreduce_%d_us,%d,%.3f\n", ranks, size, reduce * 1e6);
    printf("alltoall_%d_us,%d,%.3f\n", ranks, size, all * 1e6);
}

/* Waits until this job may measure its next point; ends the program if that never comes. */
static void begin_turn(struct turns *turns)
{
    if (!turns_begin(turns)) {
        fprintf(stderr, "btl-probe: the other jobs do not go on\n");
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
}

/* The point is measured, in all ranks: the next job may go on. */
static void end_turn(struct turns *turns)
{
    MPI_Barrier(MPI_COMM_WORLD);
    turns_end(turns);
}

/* Sends small messages between all ranks for so long. */
static void warm_up(int rank, char *data, double seconds)
{
    double end = MPI_Wtime() + seconds;
    int more = seconds > 0;

    while (more) {
        alltoall(rank, data, 8, 10);
        more = MPI_Wtime() < end;
        MPI_Bcast(&more, 1, MPI_INT, 0, MPI_COMM_WORLD);
    }
}

/* Reads the command line; returns false, having said why, if it is not understood. */
static bool options_parse(struct options *options, int argc, char **argv)
{
    static const struct option table[] = {
        {"time", required_argument, NULL, 't'},   {"sizes", required_argument, NULL, 's'},
        {"window", required_argument, NULL, 'w'}, {"warm-up", required_argument, NULL, 'u'},
        {"turns", required_argument, NULL, 'n'},  {NULL, 0, NULL, 0},
    };
    bool good = true;
    int letter;

    *options = (struct options){.seconds = 0.05, .most = 16 << 20, .jobs = 1};
    while (good && (letter = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (letter == 't')
            good = (options->seconds = atof(optarg) / 1e3) > 0;
        else if (letter == 's')
            good = sscanf(optarg, "%d:%d", &options->least, &options->most) == 2;
        else if (letter == 'w')
            good = (window_bytes = atoi(optarg)) > 0;
        else if (letter == 'u')
            options->warm_up_seconds = atof(optarg) / 1e3;
        else
            good = letter == 'n' && sscanf(optarg, "%255[^:]:%d:%d", options->turns, &options->job,
                                           &options->jobs) == 3;
    }
    good = good && optind == argc;
    if (!good)
        fputs(usage, stderr);
    return good;
}

int main(int argc, char **argv)
{
    static const int sizes[] = {0,     1,     8,      64,      256,     1024,    4096,
                                16384, 65536, 262144, 1048576, 4194304, 16777216};
    static const int collective_sizes[] = {8, 1024, 65536, 1048576};
    struct options options;
    int rank, ranks, min, max;
    struct turns turns;
    size_t i, room;
    char *data;

    MPI_Init(&argc, &argv);
    if (!options_parse(&options, argc, argv)) {
        MPI_Abort(MPI_COMM_WORLD, 2);
        return 2;
    }
    min = options.least;
    max = options.most;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    room = 2 * (size_t)ranks * (1 << 20);
    if (room < 2 * (size_t)max)
        room = 2 * (size_t)max;
    data = malloc(room + 1);
    if (ranks < 2 || !data) {
        fprintf(stderr, "btl-probe: needs two ranks, and memory for their messages\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
        return 2;
    }
    if (turns_open(&turns, options.jobs > 1 ? options.turns : NULL, options.job, options.jobs) !=
        0) {
        perror(options.turns);
        MPI_Abort(MPI_COMM_WORLD, 2);
        return 2;
    }
    memset(data, 0, room + 1);
    /* No job measures while another is starting. */
    begin_turn(&turns);
    warm_up(rank, data, options.warm_up_seconds);
    end_turn(&turns);
    /* Latency first: many messages under way leave the sockets with other windows. */
    for (i = 0; ranks == 2 && i < sizeof sizes / sizeof *sizes; i++) {
        if (sizes[i] < min || sizes[i] > max)
            continue;
        begin_turn(&turns);
        measure_latency(rank, data, sizes[i], options.seconds);
        end_turn(&turns);
    }
    for (i = 0; ranks == 2 && i < sizeof sizes / sizeof *sizes; i++) {
        if (sizes[i] < min || sizes[i] > max)
            continue;
        begin_turn(&turns);
        measure_windows(rank, data, sizes[i], options.seconds);
        end_turn(&turns);
    }
    for (i = 0; i < sizeof collective_sizes / sizeof *collective_sizes; i++) {
        if (collective_sizes[i] < min || collective_sizes[i] > max)
            continue;
        begin_turn(&turns);
        collectives(rank, ranks, data, collective_sizes[i], options.seconds);
        end_turn(&turns);
    }
    /* Nor while another ends. */
    begin_turn(&turns);
    end_turn(&turns);
    turns_close(&turns);
    free(data);
    MPI_Finalize();
    return 0;
}
