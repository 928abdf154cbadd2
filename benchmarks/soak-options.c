/* Reads the command line of ninja-soak.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "soak.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage_text[] =
    "usage: mpirun [OPTION]... ninja-soak [OPTION]...\n"
    "\n"
    "Sends messages of all kinds between all ranks (at least two) and verifies every one: each\n"
    "carries a number and a checksum, and buffers are poisoned as soon as MPI says that they may\n"
    "be used again. Prints a JSON result; exits with 0 only if nothing was lost, duplicated,\n"
    "reordered, corrupt or overwritten. SIGUSR1 (mpirun passes it on) ends the run early.\n"
    "\n"
    "  --duration SECONDS   how long to send (default 10; 0: until SIGUSR1)\n"
    "  --rate N             messages per second and rank (default 0: as fast as possible)\n"
    "  --max-size BYTES     of a message (default 8M; suffixes K and M)\n"
    "  --min-size BYTES     of a message (default 0); wildcards receive at most 256K all the same\n"
    "  --pattern NAME       who sends to whom: mixed (default), ring, pairs, all, random\n"
    "  --seed N             of all that is random (default 1); the same in all ranks\n"
    "  --observer HOST:PORT send heartbeats to ninja-observer there, one each 10 ms at most and\n"
    "                       only while messages are completed\n"
    "  --json FILE          write the result to FILE instead of standard output\n"
    "  --compute MS         now and then compute outside MPI for MS milliseconds, one rank after\n"
    "                       the other\n"
    "  --compute-rank RANK  only RANK computes\n"
    "  --idle SECONDS       keep silent for SECONDS in the middle of the run: even ranks sleep\n"
    "                       outside MPI, odd ranks wait in MPI_Recv\n"
    "  --stall-limit SECONDS  end with exit code 3 and a list of what is missing when no message\n"
    "                       is completed for SECONDS (default 0: wait for ever)\n"
    "  --inject FAULT       self-test: make one fault at the receiver after a while: flip, drop,\n"
    "                       duplicate, reorder, late or stall; the run must then fail\n"
    "  --help               print this\n";

static const char *const fault_names[SOAK_FAULT_COUNT] = {"none",    "flip", "drop", "duplicate",
                                                          "reorder", "late", "stall"};

/* Reads a number between 'low' and 'high'; returns false after printing what is wrong. */
static bool number_read(const char *name, const char *text, double low, double high, double *value)
{
    char *end;

    errno = 0;
    *value = strtod(text, &end);
    if (errno == 0 && end > text && *end == '\0' && *value >= low && *value <= high)
        return true;
    fprintf(stderr, "ninja-soak: --%s '%s': not a number from %g to %g\n", name, text, low, high);
    return false;
}

static bool size_read(const char *name, const char *text, size_t *size)
{
    char *end;
    unsigned long long value;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (*end == 'K' || *end == 'k')
        value <<= 10, end++;
    else if (*end == 'M' || *end == 'm')
        value <<= 20, end++;
    if (errno == 0 && end > text && *end == '\0' && *text != '-' && value >= SOAK_STAMP_SIZE &&
        value <= (64u << 20)) {
        *size = value;
        return true;
    }
    fprintf(stderr, "ninja-soak: --%s '%s': not a size from %d to 64M\n", name, text,
            SOAK_STAMP_SIZE);
    return false;
}

static bool pattern_read(const char *text, enum soak_pattern *pattern)
{
    unsigned i;

    for (i = 0; i < SOAK_PATTERN_COUNT; i++) {
        if (strcmp(text, soak_pattern_name(i)) == 0) {
            *pattern = (enum soak_pattern)i;
            return true;
        }
    }
    fprintf(stderr, "ninja-soak: --pattern '%s': no such pattern\n", text);
    return false;
}

static bool fault_read(const char *text, enum soak_fault *fault)
{
    unsigned i;

    for (i = 0; i < SOAK_FAULT_COUNT; i++) {
        if (strcmp(text, fault_names[i]) == 0) {
            *fault = (enum soak_fault)i;
            return true;
        }
    }
    fprintf(stderr, "ninja-soak: --inject '%s': no such fault\n", text);
    return false;
}

bool soak_options_parse(struct soak_options *options, int argc, char **argv, int *status)
{
    enum {
        RATE = 1,
        DURATION,
        SEED,
        MAX_SIZE,
        MIN_SIZE,
        OBSERVER,
        JSON,
        PATTERN,
        COMPUTE,
        COMPUTE_RANK,
        IDLE,
        STALL_LIMIT,
        INJECT
    };
    static const struct option table[] = {
        {"rate", required_argument, NULL, RATE},
        {"duration", required_argument, NULL, DURATION},
        {"seed", required_argument, NULL, SEED},
        {"max-size", required_argument, NULL, MAX_SIZE},
        {"min-size", required_argument, NULL, MIN_SIZE},
        {"observer", required_argument, NULL, OBSERVER},
        {"json", required_argument, NULL, JSON},
        {"pattern", required_argument, NULL, PATTERN},
        {"compute", required_argument, NULL, COMPUTE},
        {"compute-rank", required_argument, NULL, COMPUTE_RANK},
        {"idle", required_argument, NULL, IDLE},
        {"stall-limit", required_argument, NULL, STALL_LIMIT},
        {"inject", required_argument, NULL, INJECT},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    double value = 0;
    bool good = true;
    int option;

    *options = (struct soak_options){
        .duration_s = 10, .seed = 1, .max_size = 8u << 20, .compute_rank = -1};
    *status = 2;
    while (good && (option = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        switch (option) {
        case RATE:
            good = number_read("rate", optarg, 0, 1e6, &options->rate);
            break;
        case DURATION:
            good = number_read("duration", optarg, 0, 1e7, &options->duration_s);
            break;
        case SEED:
            good = number_read("seed", optarg, 0, 9e15, &value);
            options->seed = (uint64_t)value;
            break;
        case MAX_SIZE:
            good = size_read("max-size", optarg, &options->max_size);
            break;
        case MIN_SIZE:
            good = size_read("min-size", optarg, &options->min_size);
            break;
        case OBSERVER:
            options->observer = optarg;
            break;
        case JSON:
            options->json = optarg;
            break;
        case PATTERN:
            good = pattern_read(optarg, &options->pattern);
            break;
        case COMPUTE:
            good = number_read("compute", optarg, 0, 1e7, &value);
            options->compute_s = value / 1e3;
            break;
        case COMPUTE_RANK:
            good = number_read("compute-rank", optarg, 0, 1e6, &value);
            options->compute_rank = (int)value;
            break;
        case IDLE:
            good = number_read("idle", optarg, 0, 1e6, &options->idle_s);
            break;
        case STALL_LIMIT:
            good = number_read("stall-limit", optarg, 0, 1e6, &options->stall_limit_s);
            break;
        case INJECT:
            good = fault_read(optarg, &options->fault);
            break;
        case 'h':
            fputs(usage_text, stdout);
            *status = 0;
            return false;
        default:
            good = false;
        }
    }
    if (good && optind < argc) {
        fprintf(stderr, "ninja-soak: unexpected argument '%s'\n", argv[optind]);
        good = false;
    }
    if (!good)
        fputs("Try 'ninja-soak --help'.\n", stderr);
    return good;
}
