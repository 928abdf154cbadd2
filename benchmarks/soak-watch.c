/* Gives up when no work is done for too long, and says what is missing.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "soak.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static struct {
    struct soak *soak;
    uint64_t limit_ns, work, since_ns;
} watch;

/* Prints the transfers that are not done. The program is stuck and about to end: that snprintf is
 * not on the list of functions for signal handlers does no harm here. */
static void missing_print(const struct soak *soak)
{
    const struct soak_transfer *transfer;
    char line[256];
    unsigned i;
    int length;

    for (i = 0; i < soak->transfer_count; i++) {
        transfer = &soak->transfers[i];
        if (transfer->done)
            continue;
        length = snprintf(line, sizeof line,
                          "ninja-soak:   rank %d: not done: %s %s rank %" PRIu32
                          ", stream %s, message %" PRIu64 ", %zu bytes\n",
                          soak->rank, transfer->sending ? "send" : "receive",
                          transfer->sending ? "to" : "from",
                          transfer->sending ? transfer->id.dst : transfer->id.src,
                          soak_stream_name(transfer->id.stream), transfer->id.seq, transfer->size);
        if (write(STDERR_FILENO, line, (size_t)length) < 0)
            return;
    }
}

static void watch_tick(int signal_number)
{
    struct soak *soak = watch.soak;
    uint64_t now = heartbeat_clock();
    char line[256];
    int length;

    if (soak->work != watch.work) {
        watch.work = soak->work;
        watch.since_ns = now;
        return;
    }
    /* The signal may come to two threads; the one that read the clock first may be the last here. */
    if (now < watch.since_ns + watch.limit_ns)
        return;
    length =
        snprintf(line, sizeof line,
                 "ninja-soak: STALLED: rank %d did nothing for %.1f s: batch %" PRIu64 ", %s\n",
                 soak->rank, (double)(now - watch.since_ns) / 1e9, soak->batch, soak->doing);
    if (write(STDERR_FILENO, line, (size_t)length) > 0)
        missing_print(soak);
    /* The other ranks print theirs before the job is ended. */
    sleep(1);
    _exit(3);
}

void soak_watch_set(struct soak *soak, double limit_s)
{
    struct sigaction action = {.sa_handler = watch_tick, .sa_flags = SA_RESTART};
    struct itimerval interval = {{0, 0}, {0, 0}};

    watch.soak = soak;
    watch.limit_ns = (uint64_t)(limit_s * 1e9);
    watch.work = soak->work;
    watch.since_ns = heartbeat_clock();
    if (limit_s > 0) {
        interval.it_interval.tv_usec = 500000;
        interval.it_value.tv_usec = 500000;
        sigaction(SIGALRM, &action, NULL);
    }
    setitimer(ITIMER_REAL, &interval, NULL);
}
