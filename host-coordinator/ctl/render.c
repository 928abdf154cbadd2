/* Text for humans: tables, lines and progress bars. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "render.h"

#define BAR_WIDTH 30
/* Elsewhere than on a terminal, progress is a line now and then. */
#define LINE_EVERY_S 2.0

static int bar_open;

static const char *text_of(const json_t *object, const char *member, const char *missing)
{
    const char *text = json_string_value(json_object_get(object, member));

    return text && text[0] ? text : missing;
}

static double number_of(const json_t *object, const char *member)
{
    return json_number_value(json_object_get(object, member));
}

static const char *clock_text(double at, char *text, size_t size)
{
    time_t seconds = (time_t)at;
    struct tm parts;
    size_t used;

    localtime_r(&seconds, &parts);
    used = strftime(text, size, "%H:%M:%S", &parts);
    snprintf(text + used, size - used, ".%d", (int)((at - (double)seconds) * 10));
    return text;
}

void render_end(void)
{
    if (bar_open)
        putchar('\n');
    bar_open = 0;
    fflush(stdout);
}

void render_status(const json_t *status)
{
    json_t *host, *hca, *vm;
    size_t i, j;

    printf("%-16s %-12s %-10s %s\n", "HOST", "SITE", "STATE", "HCAS");
    json_array_foreach (json_object_get(status, "hosts"), i, host) {
        int up = json_is_true(json_object_get(host, "reachable"));

        printf("%-16s %-12s %-10s", text_of(host, "name", "?"), text_of(host, "site", "?"),
               up ? "up" : "DOWN");
        json_array_foreach (json_object_get(host, "hcas"), j, hca)
            printf(" %s (%s, %s)", text_of(hca, "name", "?"), text_of(hca, "fabric", "?"),
                   json_is_true(json_object_get(hca, "used")) ? "in use" : "free");
        printf("%s%s\n", up ? "" : " ", up ? "" : text_of(host, "error", ""));
    }
    printf("\n%-16s %-12s %-16s %-9s %-14s %-7s %s\n", "VM", "CLUSTER", "HOST", "STATE", "HCA",
           "AGENT", "MOVE");
    json_array_foreach (json_object_get(status, "vms"), i, vm) {
        char hca_text[64] = "-", move[64] = "-";

        if (json_is_string(json_object_get(vm, "hca")))
            snprintf(hca_text, sizeof(hca_text), "%s (%s)", text_of(vm, "hca", "?"),
                     text_of(vm, "fabric", "?"));
        if (json_is_integer(json_object_get(vm, "move")))
            snprintf(move, sizeof(move), "%d %s", (int)number_of(vm, "move"),
                     text_of(vm, "move_state", ""));
        printf("%-16s %-12s %-16s %-9s %-14s %-7s %s\n", text_of(vm, "name", "?"),
               text_of(vm, "cluster", "?"), text_of(vm, "host", "-"), text_of(vm, "state", "?"),
               hca_text, json_is_true(json_object_get(vm, "agent")) ? "answers" : "silent", move);
        if (json_is_string(json_object_get(vm, "missing")))
            printf("  %s\n", text_of(vm, "missing", ""));
        if (number_of(vm, "running_copies") > 1)
            printf("  DANGER: %d copies of %s run\n", (int)number_of(vm, "running_copies"),
                   text_of(vm, "name", "?"));
    }
}

void render_plan(const json_t *plan)
{
    json_t *move;
    size_t i;

    if (!json_array_size(json_object_get(plan, "moves"))) {
        printf("%s is at %s already\n", text_of(plan, "what", "?"), text_of(plan, "to", "?"));
        return;
    }
    if (number_of(plan, "plan") > 0)
        printf("plan %d: ", (int)number_of(plan, "plan"));
    printf("%s to %s, %d at a time\n", text_of(plan, "what", "?"), text_of(plan, "to", "?"),
           (int)number_of(plan, "parallel"));
    json_array_foreach (json_object_get(plan, "moves"), i, move)
        printf("  %zu. %s: %s -> %s, memory %.0f MiB, HCA %s -> %s\n", i + 1,
               text_of(move, "vm", "?"), text_of(move, "from", "?"), text_of(move, "to", "?"),
               number_of(move, "memory_bytes") / 1048576, text_of(move, "hca_from", "none"),
               text_of(move, "hca_to", "none (TCP)"));
}

static void render_bar(const json_t *event)
{
    double total = number_of(event, "bytes_total"), left = number_of(event, "bytes_left");
    int filled = total > 0 ? (int)((1 - left / total) * BAR_WIDTH) : 0;
    char bar[BAR_WIDTH + 1];

    filled = filled < 0 ? 0 : filled > BAR_WIDTH ? BAR_WIDTH : filled;
    memset(bar, '-', BAR_WIDTH);
    memset(bar, '#', (size_t)filled);
    bar[BAR_WIDTH] = '\0';
    printf("\r\033[K%s %s ", text_of(event, "vm", "?"), text_of(event, "state", "?"));
    if (total > 0)
        printf("[%s] %.1f MiB left, %.1f MiB/s", bar, left / 1048576,
               number_of(event, "bytes_per_s") / 1048576);
    printf(" waits for %s", text_of(event, "waits_for", "-"));
    bar_open = 1;
    fflush(stdout);
}

static void render_progress(const json_t *event)
{
    static double last;
    static char last_what[400];
    char at[32];
    const char *what = text_of(event, "waits_for", "-");

    if (isatty(STDOUT_FILENO)) {
        render_bar(event);
        return;
    }
    if (number_of(event, "at") - last < LINE_EVERY_S && !strcmp(what, last_what))
        return;
    last = number_of(event, "at");
    snprintf(last_what, sizeof(last_what), "%s", what);
    printf("%s %s %s: waits for %s", clock_text(last, at, sizeof(at)), text_of(event, "vm", "?"),
           text_of(event, "state", "?"), what);
    if (number_of(event, "bytes_total") > 0)
        printf("; %.1f MiB left, %.1f MiB/s", number_of(event, "bytes_left") / 1048576,
               number_of(event, "bytes_per_s") / 1048576);
    putchar('\n');
}

void render_event(const json_t *event)
{
    const char *kind = text_of(event, "event", "");
    char at[32];

    if (!strcmp(kind, "progress")) {
        render_progress(event);
    } else if (!strcmp(kind, "state")) {
        render_end();
        printf("%s %s %s: %s\n", clock_text(number_of(event, "at"), at, sizeof(at)),
               text_of(event, "vm", "?"), text_of(event, "state", "?"),
               text_of(event, "why", text_of(event, "doing", "")));
    }
    fflush(stdout);
}

void render_moves(const json_t *moves, json_int_t plan)
{
    static const char *const phases[] = {"release",  "detach", "storage", "memory",
                                         "downtime", "attach", "link_up", "resume"};
    json_t *move;
    size_t i;

    printf("%4s %-10s %-24s %-9s", "MOVE", "VM", "FROM -> TO", "STATE");
    for (unsigned p = 0; p < sizeof(phases) / sizeof(phases[0]); p++)
        printf(" %8s", phases[p]);
    printf("   MiB\n");
    json_array_foreach (moves, i, move) {
        char way[64];
        json_t *bytes = json_object_get(move, "bytes");

        if (plan && json_integer_value(json_object_get(move, "plan")) != plan)
            continue;
        snprintf(way, sizeof(way), "%.24s -> %.24s", text_of(move, "from", "?"),
                 text_of(move, "to", "?"));
        printf("%4d %-10s %-24s %-9s", (int)number_of(move, "id"), text_of(move, "vm", "?"), way,
               text_of(move, "state", "?"));
        for (unsigned p = 0; p < sizeof(phases) / sizeof(phases[0]); p++)
            printf(" %8.3f", number_of(json_object_get(move, "phases"), phases[p]));
        printf(" %5.1f\n", (number_of(bytes, "storage") + number_of(bytes, "memory")) / 1048576);
        if (json_is_string(json_object_get(move, "failure")))
            printf("     %s\n", text_of(move, "failure", ""));
        if (json_is_string(json_object_get(move, "missing")))
            printf("     %s\n", text_of(move, "missing", ""));
    }
}

void render_explanation(const json_t *move)
{
    json_t *transition;
    char at[32];
    size_t i;

    printf("move %d of plan %d: %s from %s to %s: %s\n", (int)number_of(move, "id"),
           (int)number_of(move, "plan"), text_of(move, "vm", "?"), text_of(move, "from", "?"),
           text_of(move, "to", "?"), text_of(move, "state", "?"));
    json_array_foreach (json_object_get(move, "transitions"), i, transition)
        printf("  %s %-10s %s\n", clock_text(number_of(transition, "at"), at, sizeof(at)),
               text_of(transition, "state", "?"), text_of(transition, "why", ""));
    if (json_is_string(json_object_get(move, "failure")))
        printf("It failed: %s.\n", text_of(move, "failure", ""));
    if (json_is_string(json_object_get(move, "missing")))
        printf("Missing: %s.\n", text_of(move, "missing", ""));
    if (json_is_string(json_object_get(move, "waits_for")))
        printf("It waits for: %s.\n", text_of(move, "waits_for", "nothing"));
}

/* Seconds as a human tells a length of time. */
static const char *since_text(double seconds, char *text, size_t size)
{
    unsigned long all = (unsigned long)seconds;

    if (seconds < 60)
        snprintf(text, size, "%.1f s", seconds);
    else if (all < 3600)
        snprintf(text, size, "%lu min %lu s", all / 60, all % 60);
    else
        snprintf(text, size, "%lu h %lu min", all / 3600, all / 60 % 60);
    return text;
}

static void render_rank(const json_t *vm, const json_t *rank)
{
    json_t *link;
    char since[40];
    size_t i;

    json_array_foreach (json_object_get(rank, "links"), i, link)
        printf("%-16s %-6d %-8d %-6d %-14s %s\n", text_of(vm, "vm", "?"),
               (int)number_of(rank, "rank"), (int)number_of(rank, "pid"),
               (int)number_of(link, "rank"), text_of(link, "transport", "?"),
               since_text(number_of(link, "since_s"), since, sizeof(since)));
    if (i == 0)
        printf("%-16s %-6d %-8d %-6s %s\n", text_of(vm, "vm", "?"), (int)number_of(rank, "rank"),
               (int)number_of(rank, "pid"), "-",
               text_of(rank, "error", "has talked to nobody outside its VM"));
    else if (json_is_string(json_object_get(rank, "error")))
        printf("  %s\n", text_of(rank, "error", ""));
}

void render_ranks(const json_t *message)
{
    json_t *vm, *rank;
    size_t i, j;

    printf("%-16s %-6s %-8s %-6s %-14s %s\n", "VM", "RANK", "PID", "PEER", "TRANSPORT", "SINCE");
    json_array_foreach (json_object_get(message, "vms"), i, vm) {
        json_array_foreach (json_object_get(vm, "ranks"), j, rank)
            render_rank(vm, rank);
        if (json_is_string(json_object_get(vm, "error")))
            printf("%-16s %s\n", text_of(vm, "vm", "?"), text_of(vm, "error", ""));
        else if (j == 0)
            printf("%-16s no ranks\n", text_of(vm, "vm", "?"));
        if (json_is_true(json_object_get(vm, "truncated")))
            printf("%-16s there are more than can be told\n", text_of(vm, "vm", "?"));
    }
}
