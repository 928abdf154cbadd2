/* What an observer knows of the sources of heartbeats: gaps, totals and windows of time.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef OBSERVER_TABLE_H
#define OBSERVER_TABLE_H

#include "heartbeat.h"

#include <stdio.h>

#define OBSERVER_SOURCES_MAX 4096
#define OBSERVER_WINDOWS_MAX 256

/* The longest silence of some sources. */
struct observer_gap {
    uint64_t length_ns;
    uint64_t start_ns; /* monotonic clock of the observer */
    uint64_t job;
    uint32_t rank;
};

/* One rank of one job. */
struct observer_source {
    uint64_t job;
    uint32_t rank, ranks;
    uint64_t heartbeats;
    uint64_t seq;  /* of the last heartbeat */
    uint64_t lost; /* heartbeats that did not arrive, by their numbers */
    uint64_t first_ns, last_ns;
    uint64_t messages, bytes;
    struct observer_gap longest;
    bool paused, ended;
};

/* A named stretch of time; a gap that overlaps it counts with its whole length. */
struct observer_window {
    char label[HEARTBEAT_LABEL_SIZE];
    uint64_t start_ns, end_ns; /* end 0: still open */
    struct observer_gap longest;
};

struct observer_table {
    struct observer_source *sources;
    size_t source_count, source_room;
    uint64_t refused; /* heartbeats of sources for which there was no room */
    struct observer_window windows[OBSERVER_WINDOWS_MAX];
    size_t window_count;
    int64_t wall_offset_ns; /* what to add to the monotonic clock to get the time of day */
};

/* Notes a heartbeat that arrived at 'now_ns' (monotonic). '*gap_ns' gets the silence that it
 * ended, 0 if that was meant. Returns the source, or NULL if it was refused or came late. */
const struct observer_source *observer_table_note(struct observer_table *table,
                                                  const struct heartbeat_frame *frame,
                                                  uint64_t now_ns, uint64_t *gap_ns);

/* Returns the longest gap of 'job' (0: of all jobs), a silence that still lasts at 'now_ns'
 * included. */
struct observer_gap observer_table_longest(const struct observer_table *table, uint64_t job,
                                           uint64_t now_ns);

/* Opens the window 'label' anew at 'now_ns'; opening an open one changes nothing. Returns 0, or
 * EINVAL for a label of other characters than letters, digits and "._:-", or ENOSPC. */
int observer_table_mark(struct observer_table *table, const char *label, uint64_t now_ns);

/* Closes the last window named 'label', unless it is closed. Returns it, or NULL if there is
 * none. */
const struct observer_window *observer_table_unmark(struct observer_table *table, const char *label,
                                                    uint64_t now_ns);

/* Writes the line that answers a request: the whole of 'job' (0: all jobs). */
void observer_table_print_summary(const struct observer_table *table, uint64_t job, uint64_t now_ns,
                                  FILE *out);

/* Writes one window as a JSON object. */
void observer_table_print_window(const struct observer_table *table,
                                 const struct observer_window *window, uint64_t now_ns, FILE *out);

/* Writes all that is known as a JSON document. */
void observer_table_print(const struct observer_table *table, uint64_t now_ns, FILE *out);

/* Frees what 'table' holds; NULL is allowed. */
void observer_table_clear(struct observer_table *table);

#endif
