/* Keeps the gaps between heartbeats by source and by window of time, and prints them as JSON.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "observer-table.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

/* The time of day of a monotonic time, as seconds since 1970. */
static double wall_seconds(const struct observer_table *table, uint64_t ns)
{
    return (double)((int64_t)ns + table->wall_offset_ns) / 1e9;
}

static struct observer_source *source_find(struct observer_table *table, uint64_t job,
                                           uint32_t rank)
{
    struct observer_source *list;
    size_t i, room;

    for (i = 0; i < table->source_count; i++)
        if (table->sources[i].rank == rank && table->sources[i].job == job)
            return &table->sources[i];
    if (table->source_count == OBSERVER_SOURCES_MAX)
        return NULL;
    if (table->source_count == table->source_room) {
        room = table->source_room ? 2 * table->source_room : 16;
        list = realloc(table->sources, room * sizeof *list);
        if (!list)
            return NULL;
        table->sources = list;
        table->source_room = room;
    }
    list = &table->sources[table->source_count++];
    *list = (struct observer_source){.job = job, .rank = rank};
    return list;
}

static void gap_take(struct observer_gap *longest, const struct observer_gap *gap)
{
    if (gap->length_ns > longest->length_ns)
        *longest = *gap;
}

static bool window_touches(const struct observer_window *window, const struct observer_gap *gap)
{
    return gap->start_ns + gap->length_ns > window->start_ns &&
           (window->end_ns == 0 || gap->start_ns < window->end_ns);
}

/* The silence of 'source' up to 'now_ns', of length 0 if it is meant. */
static struct observer_gap source_silence(const struct observer_source *source, uint64_t now_ns)
{
    struct observer_gap gap = {
        .start_ns = source->last_ns, .job = source->job, .rank = source->rank};

    if (!source->paused && !source->ended && now_ns > source->last_ns)
        gap.length_ns = now_ns - source->last_ns;
    return gap;
}

const struct observer_source *observer_table_note(struct observer_table *table,
                                                  const struct heartbeat_frame *frame,
                                                  uint64_t now_ns, uint64_t *gap_ns)
{
    struct observer_source *source;
    struct observer_gap gap;
    uint64_t seq = be64toh(frame->seq);
    size_t i;

    *gap_ns = 0;
    source = source_find(table, be64toh(frame->job), ntohl(frame->rank));
    if (!source) {
        table->refused++;
        return NULL;
    }
    if (source->heartbeats == 0) {
        source->first_ns = source->last_ns = now_ns;
    } else if (seq <= source->seq) {
        return NULL; /* overtaken on its way: the later one has told more */
    } else {
        source->lost += seq - source->seq - 1;
    }
    gap = source_silence(source, now_ns);
    *gap_ns = gap.length_ns;
    gap_take(&source->longest, &gap);
    for (i = 0; i < table->window_count; i++)
        if (window_touches(&table->windows[i], &gap))
            gap_take(&table->windows[i].longest, &gap);
    source->ranks = ntohl(frame->ranks);
    source->heartbeats++;
    source->seq = seq;
    source->last_ns = now_ns;
    source->messages = be64toh(frame->messages);
    source->bytes = be64toh(frame->bytes);
    source->paused = ntohs(frame->kind) == HEARTBEAT_PAUSE;
    source->ended = ntohs(frame->kind) == HEARTBEAT_END;
    return source;
}

struct observer_gap observer_table_longest(const struct observer_table *table, uint64_t job,
                                           uint64_t now_ns)
{
    struct observer_gap longest = {0}, silence;
    size_t i;

    for (i = 0; i < table->source_count; i++) {
        if (job != 0 && table->sources[i].job != job)
            continue;
        silence = source_silence(&table->sources[i], now_ns);
        gap_take(&longest, &table->sources[i].longest);
        gap_take(&longest, &silence);
    }
    return longest;
}

static bool label_is_valid(const char *label)
{
    const char *c;

    for (c = label; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._:-", *c))
            return false;
    return c > label && c - label < HEARTBEAT_LABEL_SIZE;
}

static struct observer_window *window_find(struct observer_table *table, const char *label)
{
    size_t i;

    for (i = table->window_count; i > 0; i--)
        if (strcmp(table->windows[i - 1].label, label) == 0)
            return &table->windows[i - 1];
    return NULL;
}

int observer_table_mark(struct observer_table *table, const char *label, uint64_t now_ns)
{
    struct observer_window *window;

    if (!label_is_valid(label))
        return EINVAL;
    window = window_find(table, label);
    if (window && window->end_ns == 0)
        return 0;
    if (table->window_count == OBSERVER_WINDOWS_MAX)
        return ENOSPC;
    window = &table->windows[table->window_count++];
    *window = (struct observer_window){.start_ns = now_ns};
    strcpy(window->label, label);
    return 0;
}

const struct observer_window *observer_table_unmark(struct observer_table *table, const char *label,
                                                    uint64_t now_ns)
{
    struct observer_window *window = window_find(table, label);

    if (window && window->end_ns == 0)
        window->end_ns = now_ns;
    return window;
}

/* Writes the members that tell of a gap; nothing was silent yet: null. */
static void gap_print(const struct observer_table *table, const struct observer_gap *gap, FILE *out)
{
    fprintf(out, "\"longest_stall_s\": %.6f", seconds(gap->length_ns));
    if (gap->length_ns == 0)
        fputs(", \"longest_stall_at\": null, \"longest_stall_rank\": null", out);
    else
        fprintf(out, ", \"longest_stall_at\": %.6f, \"longest_stall_rank\": %" PRIu32,
                wall_seconds(table, gap->start_ns), gap->rank);
}

void observer_table_print_summary(const struct observer_table *table, uint64_t job, uint64_t now_ns,
                                  FILE *out)
{
    struct observer_gap longest = observer_table_longest(table, job, now_ns);
    uint64_t heartbeats = 0, messages = 0, bytes = 0;
    size_t i, sources = 0, ended = 0;

    for (i = 0; i < table->source_count; i++) {
        if (job != 0 && table->sources[i].job != job)
            continue;
        sources++;
        ended += table->sources[i].ended;
        heartbeats += table->sources[i].heartbeats;
        messages += table->sources[i].messages;
        bytes += table->sources[i].bytes;
    }
    fprintf(out, "{\"job\": \"%016" PRIx64 "\", ", job);
    gap_print(table, &longest, out);
    fprintf(out,
            ", \"sources\": %zu, \"ended\": %zu, \"heartbeats\": %" PRIu64
            ", \"messages_verified\": %" PRIu64 ", \"bytes\": %" PRIu64 "}\n",
            sources, ended, heartbeats, messages, bytes);
}

void observer_table_print_window(const struct observer_table *table,
                                 const struct observer_window *window, uint64_t now_ns, FILE *out)
{
    struct observer_gap longest = window->longest, silence;
    size_t i;

    for (i = 0; i < table->source_count; i++) {
        silence = source_silence(&table->sources[i], now_ns);
        if (window_touches(window, &silence))
            gap_take(&longest, &silence);
    }
    fprintf(out, "{\"label\": \"%s\", \"start\": %.6f, ", window->label,
            wall_seconds(table, window->start_ns));
    if (window->end_ns)
        fprintf(out, "\"end\": %.6f, ", wall_seconds(table, window->end_ns));
    else
        fputs("\"end\": null, ", out);
    gap_print(table, &longest, out);
    fputc('}', out);
}

static void source_print(const struct observer_table *table, const struct observer_source *source,
                         uint64_t now_ns, FILE *out)
{
    struct observer_gap longest = source->longest, silence = source_silence(source, now_ns);

    gap_take(&longest, &silence);
    fprintf(out, "{\"job\": \"%016" PRIx64 "\", \"rank\": %" PRIu32 ", \"ranks\": %" PRIu32 ", ",
            source->job, source->rank, source->ranks);
    gap_print(table, &longest, out);
    fprintf(out,
            ", \"first\": %.6f, \"last\": %.6f, \"ended\": %s, \"heartbeats\": %" PRIu64
            ", \"heartbeats_lost\": %" PRIu64 ", \"messages_verified\": %" PRIu64
            ", \"bytes\": %" PRIu64 "}",
            wall_seconds(table, source->first_ns), wall_seconds(table, source->last_ns),
            source->ended ? "true" : "false", source->heartbeats, source->lost, source->messages,
            source->bytes);
}

void observer_table_print(const struct observer_table *table, uint64_t now_ns, FILE *out)
{
    struct observer_gap longest = observer_table_longest(table, 0, now_ns);
    size_t i;

    fputs("{\n  ", out);
    gap_print(table, &longest, out);
    fprintf(out, ",\n  \"refused\": %" PRIu64 ",\n  \"sources\": [", table->refused);
    for (i = 0; i < table->source_count; i++) {
        fputs(i ? ",\n    " : "\n    ", out);
        source_print(table, &table->sources[i], now_ns, out);
    }
    fputs("\n  ],\n  \"windows\": [", out);
    for (i = 0; i < table->window_count; i++) {
        fputs(i ? ",\n    " : "\n    ", out);
        observer_table_print_window(table, &table->windows[i], now_ns, out);
    }
    fputs("\n  ]\n}\n", out);
}

void observer_table_clear(struct observer_table *table)
{
    if (!table)
        return;
    free(table->sources);
    table->sources = NULL;
    table->source_count = table->source_room = 0;
}
