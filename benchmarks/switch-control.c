/* Has all ranks of a job release and resume a fabric again and again, and writes when, for
 * bench-switch. SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "symvirt.h"

/* usage: switch-control DIRECTORY RANKS COUNT INTERVAL SECONDS
 *
 * Connects to the control sockets of RANKS ranks in DIRECTORY. COUNT times it asks all of them at
 * once to release the fabric `fast`, and INTERVAL milliseconds later to resume it. Before each
 * release it waits until the links of all pairs (2k and 2k + 1) are on the fabric again. Begins
 * nothing after SECONDS. Prints ACTION,MILLISECONDS_SINCE_1970,OPERATION_MS,LINKS_MS: when, how
 * long until the last rank had answered and, for a resume, until the last link was on the fabric.
 * One process that stays, so that little of a processor is taken from the ranks. */

/* The first page of a rank's status has room for as many links. */
#define RANKS_MAX 32
#define ANSWER_MS 10000

struct rank {
    struct symvirt_requester *requester;
    unsigned number;
};

static struct rank ranks[RANKS_MAX];
static unsigned rank_count;

static void fail(const char *what)
{
    fprintf(stderr, "switch-control: %s\n", what);
    exit(1);
}

static double clock_ms(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double now_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

static void sleep_until(double ms)
{
    double left = ms - now_ms();

    if (left > 0)
        usleep((useconds_t)(left * 1000));
}

static void connect_all(const char *directory, unsigned wanted)
{
    DIR *dir = opendir(directory);
    const struct dirent *entry;
    char path[4096];

    while (dir && (entry = readdir(dir)) && rank_count < RANKS_MAX) {
        struct rank *rank = &ranks[rank_count];

        if (sscanf(entry->d_name, "%*u.%u.sock", &rank->number) != 1)
            continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (symvirt_requester_connect(&rank->requester, path) == 0)
            rank_count++;
    }
    if (dir)
        closedir(dir);
    if (rank_count != wanted)
        fail("not all ranks listen");
}

/* Sends `message` to all ranks and waits for all results, which `check` may look at; returns
 * whether it was content with all. */
static int ask_all(json_t *message, int (*check)(const struct rank *, const json_t *))
{
    uint64_t operations[RANKS_MAX];
    unsigned char done[RANKS_MAX] = {0};
    double limit = now_ms() + ANSWER_MS;
    unsigned left = rank_count;
    int content = 1;

    for (unsigned i = 0; i < rank_count; i++)
        if (symvirt_requester_send(ranks[i].requester, message, &operations[i]) != 0)
            fail("a rank is gone");
    json_decref(message);
    while (left > 0) {
        struct pollfd fds[RANKS_MAX];

        for (unsigned i = 0; i < rank_count; i++)
            fds[i] =
                (struct pollfd){done[i] ? -1 : symvirt_requester_fd(ranks[i].requester), POLLIN, 0};
        if (now_ms() > limit || poll(fds, rank_count, 100) < 0)
            fail("a rank does not answer");
        for (unsigned i = 0; i < rank_count; i++) {
            json_t *answer;
            int rc = 0;

            while (!done[i] && (rc = symvirt_requester_receive(ranks[i].requester, &answer)) == 0) {
                enum symvirt_message_type type;

                if (symvirt_message_check(answer, &type) == 0 && type == SYMVIRT_RESULT &&
                    symvirt_message_op(answer) == operations[i]) {
                    done[i] = 1;
                    left--;
                    content = check(&ranks[i], answer) && content;
                }
                json_decref(answer);
            }
            if (rc != 0 && rc != -EAGAIN)
                fail("a rank is gone");
        }
    }
    return content;
}

static int succeeded(const struct rank *rank, const json_t *answer)
{
    if (symvirt_message_number(answer, "error", EPROTO) != 0)
        fail(symvirt_message_text(answer, "message"));
    return 1;
}

/* Our link to the other one of the pair is on the fabric. */
static int on_fabric(const struct rank *rank, const json_t *answer)
{
    const json_t *status = json_object_get(json_object_get(answer, "detail"), "status");
    const json_t *link;
    size_t i;

    json_array_foreach (json_object_get(status, "links"), i, link)
        if ((unsigned)json_integer_value(json_object_get(link, "rank")) == (rank->number ^ 1))
            return strcmp(symvirt_message_text(link, "transport"), "fast") == 0;
    return 0;
}

static void wait_for_links(void)
{
    double limit = now_ms() + ANSWER_MS;

    while (!ask_all(symvirt_message_request(SYMVIRT_STATUS, 0), on_fabric)) {
        if (now_ms() > limit)
            fail("the links do not get to the fabric");
        usleep(1000);
    }
}

static void switch_all(enum symvirt_message_type type)
{
    static const struct symvirt_fabric fabric = {.name = "fast"};
    double begin = now_ms(), answered, links = 0;
    double begin_1970 = clock_ms(CLOCK_REALTIME);

    (void)ask_all(symvirt_message_fabric_request(type, 0, &fabric), succeeded);
    answered = now_ms() - begin;
    if (type == SYMVIRT_RESUME) {
        wait_for_links();
        links = now_ms() - begin;
    }
    printf("%s,%.0f,%.1f,%.1f\n", symvirt_message_type_name(type), begin_1970, answered, links);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    unsigned wanted = argc == 6 ? (unsigned)atoi(argv[2]) : 0;
    unsigned count = argc == 6 ? (unsigned)atoi(argv[3]) : 0;
    double interval = argc == 6 ? atof(argv[4]) : 0, next = now_ms();
    double end = next + (argc == 6 ? atof(argv[5]) * 1000 : 0);

    if (wanted < 1 || wanted > RANKS_MAX || count < 1 || interval <= 0)
        fail("switch-control DIRECTORY RANKS COUNT INTERVAL SECONDS");
    connect_all(argv[1], wanted);
    wait_for_links();
    for (unsigned i = 0; i < 2 * count && now_ms() < end; i++) {
        sleep_until(next += interval);
        switch_all(i % 2 == 0 ? SYMVIRT_RELEASE : SYMVIRT_RESUME);
        if (next < now_ms())
            next = now_ms();
    }
    for (unsigned i = 0; i < rank_count; i++)
        symvirt_requester_destroy(ranks[i].requester);
    return 0;
}
