/*
 * Counters of a rank: the sum over its links, and the histogram of stalls.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "counters.h"

#include <string.h>
#include <time.h>

#include "core.h"

_Static_assert(NINJA_COUNTERS_TRANSPORTS == NINJA_FABRICS_MAX + 1, "the lifeline and all fabrics");

uint64_t ninja_now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void ninja_stall_note(struct ninja_core *core, uint64_t since_us)
{
    struct ninja_stalls *stalls = &core->stalls;
    uint64_t lasted_us = ninja_now_us() - since_us;
    unsigned bucket = 0;

    for (uint64_t ms = lasted_us / 1000; ms > 0 && bucket < NINJA_STALL_BUCKETS - 1; ms >>= 1)
        bucket++;
    stalls->bucket[bucket]++;
    stalls->total_us += lasted_us;
    if (lasted_us > stalls->longest_us)
        stalls->longest_us = lasted_us;
}

void ninja_counters_sum(const struct ninja_core *core, struct ninja_counters *counters)
{
    memset(counters, 0, sizeof(*counters));
    counters->stalls = core->stalls;
    for (const struct ninja_link *link = core->links; link != NULL; link = link->next) {
        const struct ninja_link_counters *of = &link->counters;

        for (unsigned i = 0; i < NINJA_COUNTERS_TRANSPORTS; i++) {
            counters->messages_sent[i] += of->frames_sent[i];
            counters->messages_received[i] += of->frames_received[i];
            counters->bytes_sent[i] += of->bytes_sent[i];
            counters->bytes_received[i] += of->bytes_received[i];
        }
        counters->switches += of->switches;
        counters->replayed += of->replayed;
        counters->duplicates += of->duplicates;
        counters->reconnects += of->reconnects;
        counters->reads += of->reads;
        counters->retained_bytes += link->data.retained_bytes;
        counters->links++;
    }
}

void ninja_core_counters(struct ninja_core *core, struct ninja_counters *counters)
{
    ninja_gate_enter(&core->gate);
    ninja_counters_sum(core, counters);
    ninja_gate_leave(&core->gate);
}
