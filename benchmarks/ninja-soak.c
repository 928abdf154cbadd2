/* Sends verified messages of all kinds between the ranks of a job for as long as asked, to show
 * that a job goes on and loses nothing while its transports change.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "soak.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS      5000000u /* longest sleep between looks at the heartbeat */
#define COMPUTE_EVERY 16       /* batches */

static volatile sig_atomic_t stop_asked;

static void stop_ask(int signal_number)
{
    stop_asked = 1;
}

/* Waits until 'end_ns' outside MPI, alive for the observer: by sleeping, or by computing. */
static void outside_mpi(struct soak *soak, uint64_t end_ns, bool compute)
{
    volatile double work = 1;
    struct timespec slice = {0, 0};
    uint64_t now, left;
    int i;

    soak->doing = compute ? "computing" : "sleeping";
    while ((now = heartbeat_clock()) < end_ns && !stop_asked) {
        heartbeat_beat(&soak->heartbeat, HEARTBEAT_ALIVE, soak->counters.verified,
                       soak->counters.bytes);
        soak->work++;
        if (compute) {
            for (i = 0; i < 20000; i++)
                work = sqrt(work + i);
            continue;
        }
        left = end_ns - now;
        slice.tv_nsec = (long)(left < SLICE_NS ? left : SLICE_NS);
        nanosleep(&slice, NULL);
    }
}

/* A silence that is meant: even ranks sleep outside MPI, odd ones wait in MPI for their word. */
static void keep_silent(struct soak *soak)
{
    int word = 0, partner = soak->rank ^ 1;
    struct timespec length = {(time_t)soak->options->idle_s,
                              (long)(fmod(soak->options->idle_s, 1) * 1e9)};

    MPI_Barrier(soak->control);
    heartbeat_announce(&soak->heartbeat, HEARTBEAT_PAUSE, soak->counters.verified,
                       soak->counters.bytes);
    soak_watch_set(soak, 0);
    if (soak->rank % 2) {
        MPI_Recv(&word, 1, MPI_INT, partner, 1, soak->control, MPI_STATUS_IGNORE);
    } else {
        while (nanosleep(&length, &length) < 0 && errno == EINTR)
            ;
        if (partner < soak->ranks)
            MPI_Send(&word, 1, MPI_INT, partner, 1, soak->control);
    }
    soak_watch_set(soak, soak->options->stall_limit_s);
    soak_work_done(soak);
}

/* Agrees with all ranks on whether the run is over. */
static bool run_is_over(struct soak *soak, uint64_t end_ns)
{
    int mine = stop_asked || (soak->rank == 0 && end_ns && heartbeat_clock() >= end_ns);
    int over = 0;

    soak->doing = "in MPI_Allreduce, agreeing on the end";
    MPI_Allreduce(&mine, &over, 1, MPI_INT, MPI_MAX, soak->control);
    soak_work_done(soak);
    return over;
}

/* What this rank does between two batches. */
static void between_batches(struct soak *soak)
{
    const struct soak_options *options = soak->options;
    uint64_t turn = soak->batch / COMPUTE_EVERY;
    int computer =
        options->compute_rank >= 0 ? options->compute_rank : (int)(turn % (uint64_t)soak->ranks);

    if (soak->batch % SOAK_COLLECTIVE_EVERY == SOAK_COLLECTIVE_EVERY - 1)
        soak_collective_run(soak);
    if (options->compute_s > 0 && soak->batch % COMPUTE_EVERY == COMPUTE_EVERY - 1 &&
        computer == soak->rank)
        outside_mpi(soak, heartbeat_clock() + (uint64_t)(options->compute_s * 1e9), true);
    if (options->fault == SOAK_FAULT_STALL && soak->batch == 20 && soak->rank == 1) {
        soak->doing = "stalling for the self-test";
        for (;;)
            pause();
    }
}

static void run(struct soak *soak)
{
    const struct soak_options *options = soak->options;
    uint64_t start = heartbeat_clock(), end = 0, interval = 0, next = start, check = 1;
    bool idle_left = options->idle_s > 0;
    int idle_now, idle_want;

    if (options->duration_s > 0)
        end = start + (uint64_t)(options->duration_s * 1e9);
    if (options->rate > 0)
        interval = (uint64_t)(soak->plan.per_rank * 1e9 / options->rate);
    /* Agreeing costs a collective: not after each batch if they are short. */
    check = interval > 100000000u ? 1 : SOAK_COLLECTIVE_EVERY;
    for (;; soak->batch++) {
        soak_batch_run(soak);
        between_batches(soak);
        if (soak->batch % check == check - 1) {
            if (run_is_over(soak, end))
                return;
            idle_want = idle_left && heartbeat_clock() - start > (end - start) / 2;
            if (idle_left) {
                MPI_Allreduce(&idle_want, &idle_now, 1, MPI_INT, MPI_MAX, soak->control);
                if (idle_now) {
                    keep_silent(soak);
                    idle_left = false;
                    end += end ? (uint64_t)(options->idle_s * 1e9) : 0;
                }
            }
        }
        if (interval) {
            next += interval;
            if (heartbeat_clock() < next)
                outside_mpi(soak, next, false);
            else
                next = heartbeat_clock(); /* never try to catch up after a stall */
        }
    }
}

/* Asks the observer for the longest stall; returns a negative number if it does not answer. */
static double longest_stall(struct soak *soak)
{
    char answer[2048], *value;

    if (soak->heartbeat.fd < 0 ||
        heartbeat_request(soak->heartbeat.fd, HEARTBEAT_REPORT, soak->heartbeat.job, NULL, answer,
                          sizeof answer) < 0)
        return -1;
    value = strstr(answer, "\"longest_stall_s\": ");
    return value ? strtod(value + strlen("\"longest_stall_s\": "), NULL) : -1;
}

/* Prints the result of all ranks; returns the exit code. */
static int result_print(struct soak *soak, const struct soak_counters *sum, double duration_s)
{
    const char *path = soak->options->json;
    bool good = sum->lost + sum->duplicated + sum->corrupt + sum->reordered + sum->overwritten == 0;
    double stall = longest_stall(soak);
    FILE *out = path ? fopen(path, "w") : stdout;

    good = good && sum->sent == sum->verified;
    if (!out) {
        fprintf(stderr, "ninja-soak: %s: %s\n", path, strerror(errno));
        return 1;
    }
    fprintf(out,
            "{\n"
            "  \"program\": \"ninja-soak\",\n"
            "  \"result\": \"%s\",\n"
            "  \"job\": \"%016" PRIx64 "\",\n"
            "  \"ranks\": %d,\n"
            "  \"seed\": %" PRIu64 ",\n"
            "  \"pattern\": \"%s\",\n"
            "  \"duration_s\": %.3f,\n"
            "  \"batches\": %" PRIu64 ",\n"
            "  \"messages_sent\": %" PRIu64 ",\n"
            "  \"messages_verified\": %" PRIu64 ",\n"
            "  \"lost\": %" PRIu64 ",\n"
            "  \"duplicated\": %" PRIu64 ",\n"
            "  \"corrupt\": %" PRIu64 ",\n"
            "  \"reordered\": %" PRIu64 ",\n"
            "  \"overwritten\": %" PRIu64 ",\n"
            "  \"collectives\": %" PRIu64 ",\n"
            "  \"bytes\": %" PRIu64 ",\n",
            good ? "ok" : "failed", soak->heartbeat.job, soak->ranks, soak->options->seed,
            soak_pattern_name(soak->options->pattern), duration_s, soak->batch + 1, sum->sent,
            sum->verified, sum->lost, sum->duplicated, sum->corrupt, sum->reordered,
            sum->overwritten, sum->collectives, sum->bytes);
    if (stall >= 0)
        fprintf(out, "  \"longest_stall_s\": %.6f\n}\n", stall);
    else
        fputs("  \"longest_stall_s\": null\n}\n", out);
    if (fflush(out) != 0 || ferror(out)) {
        fprintf(stderr, "ninja-soak: %s: %s\n", path ? path : "output", strerror(errno));
        good = false;
    }
    if (path)
        fclose(out);
    return good ? 0 : 1;
}

/* Makes what the run needs; returns 0, or an exit code after printing what is wrong. */
static int soak_open(struct soak *soak)
{
    const struct soak_options *options = soak->options;
    uint64_t job = 0;
    int stream, status = 0;

    if (soak->ranks < 2) {
        fprintf(stderr, "ninja-soak: at least two ranks are needed: mpirun -np 2 ninja-soak\n");
        return 2;
    }
    if (options->compute_rank >= soak->ranks) {
        fprintf(stderr, "ninja-soak: --compute-rank %d: there are only %d ranks\n",
                options->compute_rank, soak->ranks);
        return 2;
    }
    soak->plan = (struct soak_plan){
        .seed = options->seed,
        .ranks = (uint32_t)soak->ranks,
        .me = (uint32_t)soak->rank,
        .per_rank = SOAK_BATCH_MAX,
        .min_size = options->min_size < options->max_size ? options->min_size : options->max_size,
        .max_size = options->max_size,
        .pattern = options->pattern,
    };
    /* At a slow rate small batches keep the messages, and so the heartbeats, evenly spaced. */
    if (options->rate > 0 && options->rate < 100 * SOAK_BATCH_MAX)
        soak->plan.per_rank = options->rate < 200 ? 1 : (unsigned)(options->rate / 100);
    soak->transfer_room = soak->plan.per_rank * (unsigned)soak->ranks;
    soak->peers = calloc((size_t)soak->ranks, sizeof *soak->peers);
    soak->messages = calloc(soak->transfer_room, sizeof *soak->messages);
    soak->transfers = calloc(soak->transfer_room, sizeof *soak->transfers);
    soak->requests = calloc(soak->transfer_room, sizeof *soak->requests);
    soak->indices = calloc(soak->transfer_room, sizeof *soak->indices);
    soak->statuses = calloc(soak->transfer_room, sizeof *soak->statuses);
    if (!soak->peers || !soak->messages || !soak->transfers || !soak->requests || !soak->indices ||
        !soak->statuses) {
        fprintf(stderr, "ninja-soak: out of memory\n");
        return 1;
    }
    if (soak->rank == 0)
        job = soak_mix(heartbeat_clock() ^
                       soak_mix((uint64_t)time(NULL) ^ ((uint64_t)getpid() << 32)));
    MPI_Bcast(&job, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    if (heartbeat_open(&soak->heartbeat, options->observer, job, (uint32_t)soak->rank,
                       (uint32_t)soak->ranks) < 0)
        status = 2;
    /* One rank that cannot start must not leave the others waiting. */
    MPI_Allreduce(MPI_IN_PLACE, &status, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (status != 0)
        return status;
    for (stream = 0; stream < SOAK_STREAM_COUNT; stream++)
        MPI_Comm_dup(MPI_COMM_WORLD, &soak->comm[stream]);
    for (stream = 0; stream < SOAK_COLLECTIVE_EVERY; stream++)
        MPI_Comm_dup(MPI_COMM_WORLD, &soak->any[stream]);
    MPI_Comm_dup(MPI_COMM_WORLD, &soak->control);
    soak_channels_open(soak);
    return 0;
}

static void soak_close(struct soak *soak)
{
    int stream;

    for (stream = 0; stream < SOAK_STREAM_COUNT; stream++)
        MPI_Comm_free(&soak->comm[stream]);
    for (stream = 0; stream < SOAK_COLLECTIVE_EVERY; stream++)
        MPI_Comm_free(&soak->any[stream]);
    MPI_Comm_free(&soak->control);
    for (; soak->ranks > 0; soak->ranks--)
        free(soak->peers[soak->ranks - 1].received);
    heartbeat_close(&soak->heartbeat);
    free(soak->peers);
    free(soak->messages);
    free(soak->transfers);
    free(soak->requests);
    free(soak->indices);
    free(soak->statuses);
}

/* Runs the whole test in an initialized MPI; returns the exit code, the same in all ranks. */
static int soak_main(struct soak *soak)
{
    struct soak_counters sum;
    uint64_t start;
    int status = soak_open(soak);

    if (status != 0)
        return status;
    signal(SIGUSR1, stop_ask);
    MPI_Barrier(soak->control);
    start = heartbeat_clock();
    soak_watch_set(soak, soak->options->stall_limit_s);
    run(soak);
    soak_watch_set(soak, 0);
    soak_lost_count(soak);
    soak_channels_close(soak);
    soak_pool_drain(&soak->pool);
    soak->counters.overwritten = soak->pool.overwritten;
    heartbeat_announce(&soak->heartbeat, HEARTBEAT_END, soak->counters.verified,
                       soak->counters.bytes);
    MPI_Allreduce(&soak->counters, &sum, SOAK_COUNTERS, MPI_UINT64_T, MPI_SUM, soak->control);
    if (soak->rank == 0)
        status = result_print(soak, &sum, (double)(heartbeat_clock() - start) / 1e9);
    MPI_Bcast(&status, 1, MPI_INT, 0, soak->control);
    soak_close(soak);
    return status;
}

int main(int argc, char **argv)
{
    struct soak_options options;
    static struct soak soak = {.heartbeat = {.fd = -1}, .doing = "starting"};
    int status;

    if (!soak_options_parse(&options, argc, argv, &status))
        return status;
    soak.options = &options;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &soak.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &soak.ranks);
    status = soak_main(&soak);
    MPI_Finalize();
    return status;
}
