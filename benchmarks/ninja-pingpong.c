/* Measures latency and bandwidth between two ranks, with output like the PingPong of the Intel MPI
 * Benchmarks, so that tools which read that can read this.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <getopt.h>
#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VOLUME_MAX (40u << 20) /* bytes per message size, unless --iterations says otherwise */
#define WARM_UP    10

static const char usage_text[] =
    "usage: mpirun -np 2 [OPTION]... ninja-pingpong [OPTION]...\n"
    "\n"
    "Sends messages of growing size from rank 0 to rank 1 and back; prints half the time of a\n"
    "round trip, and the bandwidth in 10^6 bytes per second, in the columns of IMB PingPong.\n"
    "Ranks from 2 on wait.\n"
    "\n"
    "  --min BYTES        smallest message but the empty one (default 1)\n"
    "  --max BYTES        largest message (default 4194304)\n"
    "  --iterations N     round trips per size (default: 1000, fewer from 40 KiB on)\n"
    "  --no-empty         without the empty message\n"
    "  --check            fill and verify the messages (slower; not timed apart)\n"
    "  --help             print this\n";

struct options {
    size_t min, max;
    long iterations; /* 0: by size */
    bool no_empty;
    bool check;
};

static bool number_read(const char *name, const char *text, unsigned long long max,
                        unsigned long long *value)
{
    char *end;

    errno = 0;
    *value = strtoull(text, &end, 10);
    if (errno == 0 && end > text && *end == '\0' && *text != '-' && *value <= max && *value > 0)
        return true;
    fprintf(stderr, "ninja-pingpong: --%s '%s': not a number from 1 to %llu\n", name, text, max);
    return false;
}

/* Reads the command line; returns -1 to go on, else the exit code. */
static int options_parse(struct options *options, int argc, char **argv)
{
    enum { MIN = 1, MAX, ITERATIONS, NO_EMPTY, CHECK };
    static const struct option table[] = {
        {"min", required_argument, NULL, MIN},
        {"max", required_argument, NULL, MAX},
        {"iterations", required_argument, NULL, ITERATIONS},
        {"no-empty", no_argument, NULL, NO_EMPTY},
        {"check", no_argument, NULL, CHECK},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    unsigned long long value = 0;
    bool good = true;
    int option;

    *options = (struct options){.min = 1, .max = 4u << 20};
    while (good && (option = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        switch (option) {
        case MIN:
            good = number_read("min", optarg, 1u << 30, &value);
            options->min = value;
            break;
        case MAX:
            good = number_read("max", optarg, 1u << 30, &value);
            options->max = value;
            break;
        case ITERATIONS:
            good = number_read("iterations", optarg, 1000000000, &value);
            options->iterations = (long)value;
            break;
        case NO_EMPTY:
            options->no_empty = true;
            break;
        case CHECK:
            options->check = true;
            break;
        case 'h':
            fputs(usage_text, stdout);
            return 0;
        default:
            good = false;
        }
    }
    if (good && optind == argc)
        return -1;
    fputs("Try 'ninja-pingpong --help'.\n", stderr);
    return 2;
}

static void check_message(const unsigned char *data, size_t size, unsigned char value)
{
    if (size > 0 && (data[0] != value || memcmp(data, data + 1, size - 1) != 0)) {
        fprintf(stderr, "ninja-pingpong: a message of %zu bytes arrived corrupt\n", size);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
}

/* Makes 'count' round trips; the reply has each byte increased by one if they are checked. */
static void round_trips(int rank, unsigned char *data, size_t size, long count, bool check)
{
    long i;

    for (i = 0; i < count; i++) {
        if (rank == 0) {
            if (check)
                memset(data, (int)(i & 0x7f), size);
            MPI_Send(data, (int)size, MPI_BYTE, 1, 1, MPI_COMM_WORLD);
            MPI_Recv(data, (int)size, MPI_BYTE, 1, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            if (check)
                check_message(data, size, (unsigned char)((i & 0x7f) + 1));
        } else if (rank == 1) {
            MPI_Recv(data, (int)size, MPI_BYTE, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            if (check) {
                check_message(data, size, (unsigned char)(i & 0x7f));
                memset(data, (int)(i & 0x7f) + 1, size);
            }
            MPI_Send(data, (int)size, MPI_BYTE, 0, 1, MPI_COMM_WORLD);
        }
    }
}

static void size_run(const struct options *options, int rank, unsigned char *data, size_t size)
{
    long count = options->iterations;
    double start, each;

    if (count == 0) {
        count = size > 0 ? (long)(VOLUME_MAX / size) : 1000;
        count = count > 1000 ? 1000 : count < 1 ? 1 : count;
    }
    MPI_Barrier(MPI_COMM_WORLD);
    round_trips(rank, data, size, count < WARM_UP ? count : WARM_UP, options->check);
    start = MPI_Wtime();
    round_trips(rank, data, size, count, options->check);
    each = (MPI_Wtime() - start) / (double)count / 2;
    if (rank == 0) {
        printf("%13zu %12ld %12.2f %12.2f\n", size, count, each * 1e6,
               each > 0 ? (double)size / each / 1e6 : 0);
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    static const char rule[] = "#---------------------------------------------------\n";
    struct options options;
    unsigned char *data;
    int rank, ranks, status;
    size_t size;

    status = options_parse(&options, argc, argv);
    if (status >= 0)
        return status;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    data = malloc(options.max);
    if (ranks < 2 || !data) {
        fprintf(stderr, "ninja-pingpong: %s\n", data ? "two ranks are needed" : "out of memory");
        MPI_Abort(MPI_COMM_WORLD, 2);
        return 2;
    }
    memset(data, 1, options.max);
    if (rank == 0) {
        printf("%s# Benchmarking PingPong \n# #processes = 2 \n", rule);
        if (ranks > 2)
            printf("# ( %d additional processes waiting in MPI_Barrier)\n", ranks - 2);
        printf("%s       #bytes #repetitions      t[usec]   Mbytes/sec\n", rule);
    }
    if (!options.no_empty)
        size_run(&options, rank, data, 0);
    for (size = options.min; size <= options.max; size *= 2)
        size_run(&options, rank, data, size);
    free(data);
    MPI_Finalize();
    return 0;
}
