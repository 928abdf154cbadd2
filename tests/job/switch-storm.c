/* Makes the ranks of a running job release and resume a fabric at random times, each by itself.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "symvirt.h"

#define RANKS_MAX   256
#define PENDING_MAX 4

static const char usage_text[] =
    "usage: switch-storm --dir DIR --ranks N [OPTION]...\n"
    "\n"
    "Connects to the control sockets of N ranks in DIR and, each time at a random one, asks to\n"
    "release the fabric if it was resumed last, and to resume it if it was released. In the end\n"
    "all ranks get it back. Prints the counts as JSON; fails if an operation fails or a rank is\n"
    "gone.\n"
    "\n"
    "  --fabric NAME     (default fast)\n"
    "  --interval MS     between two requests on average (default 50)\n"
    "  --duration S      (default 10)\n"
    "  --overlap PERCENT how often a rank is asked while it still works on its last request\n"
    "                    (default 10); an operation may then be overtaken by the next one\n"
    "  --limit MS        an operation that takes longer has failed (default 6000)\n"
    "  --seed N          of what is random (default 1)\n";

struct options {
    const char *dir;
    struct symvirt_fabric fabric;
    unsigned ranks, interval_ms, overlap, limit_ms;
    double duration_s;
    uint64_t seed;
};

/* A request without a result yet. */
struct operation {
    uint64_t op;
    uint64_t start_ms;
    bool release, overlapped;
};

struct rank {
    struct symvirt_requester *requester;
    char name[256];
    bool up; /* what was asked last */
    struct operation pending[PENDING_MAX];
    unsigned pending_count;
};

struct storm {
    struct options options;
    struct rank ranks[RANKS_MAX];
    unsigned rank_count;
    unsigned releases, resumes, overlapped, overtaken, failed;
    uint64_t longest_release_ms, longest_resume_ms;
};

static uint64_t clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* The next number of a pseudo-random sequence (xorshift64*). */
static uint64_t draw(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

/* Connects to all sockets in the directory; they may still be coming. */
static bool storm_connect(struct storm *storm)
{
    uint64_t end = clock_ms() + 20000;
    char path[4096];
    struct dirent *entry;
    struct rank *rank;
    unsigned i;
    DIR *dir;

    while (storm->rank_count < storm->options.ranks && clock_ms() < end) {
        dir = opendir(storm->options.dir);
        while (dir && (entry = readdir(dir)) && storm->rank_count < RANKS_MAX) {
            if (!strstr(entry->d_name, ".sock"))
                continue;
            for (i = 0; i < storm->rank_count; i++)
                if (strcmp(storm->ranks[i].name, entry->d_name) == 0)
                    break;
            if (i < storm->rank_count)
                continue;
            rank = &storm->ranks[storm->rank_count];
            snprintf(path, sizeof path, "%s/%s", storm->options.dir, entry->d_name);
            if (symvirt_requester_connect(&rank->requester, path) < 0)
                continue;
            snprintf(rank->name, sizeof rank->name, "%s", entry->d_name);
            rank->up = true;
            storm->rank_count++;
        }
        if (dir)
            closedir(dir);
        if (storm->rank_count < storm->options.ranks)
            usleep(20000);
    }
    if (storm->rank_count == storm->options.ranks)
        return true;
    fprintf(stderr, "switch-storm: found %u ranks in %s, not %u\n", storm->rank_count,
            storm->options.dir, storm->options.ranks);
    return false;
}

/* Asks 'rank' for the contrary of what it was asked last; returns false if it is gone. */
static bool rank_flip(struct storm *storm, struct rank *rank)
{
    struct operation *operation = &rank->pending[rank->pending_count];
    enum symvirt_message_type type = rank->up ? SYMVIRT_RELEASE : SYMVIRT_RESUME;
    json_t *message = symvirt_message_fabric_request(type, 1, &storm->options.fabric);
    unsigned i;
    int status;

    if (!message) {
        fprintf(stderr, "switch-storm: out of memory\n");
        return false;
    }
    *operation = (struct operation){.release = rank->up, .start_ms = clock_ms()};
    status = symvirt_requester_send(rank->requester, message, &operation->op);
    json_decref(message);
    if (status < 0) {
        fprintf(stderr, "switch-storm: %s: %s\n", rank->name, strerror(-status));
        return false;
    }
    operation->overlapped = rank->pending_count > 0;
    for (i = 0; i < rank->pending_count; i++)
        rank->pending[i].overlapped = true;
    storm->overlapped += rank->pending_count > 0;
    *(rank->up ? &storm->releases : &storm->resumes) += 1;
    rank->up = !rank->up;
    rank->pending_count++;
    return true;
}

/* Takes in the result of the operation at 'index' of 'rank'. */
static void result_take(struct storm *storm, struct rank *rank, unsigned index, int error,
                        const char *text)
{
    struct operation operation = rank->pending[index];
    uint64_t took = clock_ms() - operation.start_ms;
    uint64_t *longest = operation.release ? &storm->longest_release_ms : &storm->longest_resume_ms;

    rank->pending[index] = rank->pending[--rank->pending_count];
    if (took > *longest)
        *longest = took;
    if (error == 0)
        return;
    if (operation.overlapped && (error == ECANCELED || error == EBUSY || error == EAGAIN)) {
        storm->overtaken++;
        return;
    }
    storm->failed++;
    fprintf(stderr, "switch-storm: %s: %s failed after %llu ms: %s (%s)\n", rank->name,
            operation.release ? "release" : "resume", (unsigned long long)took, strerror(error),
            text);
}

/* Reads what has come from 'rank'; returns false if it is gone or too slow. */
static bool rank_read(struct storm *storm, struct rank *rank)
{
    unsigned limit = storm->options.limit_ms;
    enum symvirt_message_type type;
    json_t *message;
    unsigned i;
    int status;

    while ((status = symvirt_requester_receive(rank->requester, &message)) == 0) {
        if (symvirt_message_check(message, &type) == 0 && type == SYMVIRT_RESULT)
            for (i = 0; i < rank->pending_count; i++)
                if (rank->pending[i].op == symvirt_message_op(message)) {
                    result_take(storm, rank, i,
                                (int)symvirt_message_number(message, "error", EPROTO),
                                symvirt_message_text(message, "message"));
                    break;
                }
        json_decref(message);
    }
    if (status != -EAGAIN) {
        fprintf(stderr, "switch-storm: %s: %s\n", rank->name, strerror(-status));
        return false;
    }
    for (i = 0; i < rank->pending_count; i++) {
        if (clock_ms() - rank->pending[i].start_ms > limit) {
            fprintf(stderr, "switch-storm: %s: %s did not end within %u ms\n", rank->name,
                    rank->pending[i].release ? "release" : "resume", limit);
            storm->failed++;
            return false;
        }
    }
    return true;
}

/* Waits for results until 'end_ms'. Returns false if a rank is gone or too slow. */
static bool storm_wait(struct storm *storm, uint64_t end_ms)
{
    struct pollfd fds[RANKS_MAX];
    uint64_t now;
    unsigned i;

    do {
        for (i = 0; i < storm->rank_count; i++)
            fds[i] = (struct pollfd){.fd = symvirt_requester_fd(storm->ranks[i].requester),
                                     .events = POLLIN};
        now = clock_ms();
        if (poll(fds, storm->rank_count, end_ms > now ? (int)(end_ms - now) : 0) < 0)
            return false;
        for (i = 0; i < storm->rank_count; i++)
            if (!rank_read(storm, &storm->ranks[i]))
                return false;
    } while (clock_ms() < end_ms);
    return true;
}

static bool storm_all_quiet(const struct storm *storm)
{
    unsigned i;

    for (i = 0; i < storm->rank_count; i++)
        if (storm->ranks[i].pending_count > 0)
            return false;
    return true;
}

/* Flips random ranks for the whole duration. */
static bool storm_rage(struct storm *storm)
{
    uint64_t end = clock_ms() + (uint64_t)(storm->options.duration_s * 1000);
    uint64_t state = storm->options.seed * 0x9e3779b97f4a7c15u | 1;
    unsigned interval = storm->options.interval_ms;
    struct rank *rank;

    while (clock_ms() < end) {
        if (!storm_wait(storm, clock_ms() + interval / 2 + draw(&state) % (interval + 1)))
            return false;
        rank = &storm->ranks[draw(&state) % storm->rank_count];
        if (rank->pending_count == PENDING_MAX ||
            (rank->pending_count > 0 && draw(&state) % 100 >= storm->options.overlap))
            continue;
        if (!rank_flip(storm, rank))
            return false;
    }
    return true;
}

/* Lets all ranks finish and gives the fabric back to those that released it last. */
static bool storm_settle(struct storm *storm)
{
    int round;
    unsigned i;

    for (round = 0; round < 2; round++) {
        while (!storm_all_quiet(storm))
            if (!storm_wait(storm, clock_ms() + 10))
                return false;
        for (i = 0; round == 0 && i < storm->rank_count; i++)
            if (!storm->ranks[i].up && !rank_flip(storm, &storm->ranks[i]))
                return false;
    }
    return true;
}

static void number_read(const char *name, const char *text, double max, double *value)
{
    char *end;

    *value = strtod(text, &end);
    if (end == text || *end || !(*value >= 0) || *value > max) {
        fprintf(stderr, "switch-storm: --%s '%s': not a number from 0 to %g\n", name, text, max);
        exit(2);
    }
}

static void options_parse(struct options *options, int argc, char **argv)
{
    static const struct option table[] = {
        {"dir", required_argument, NULL, 'd'},      {"fabric", required_argument, NULL, 'f'},
        {"ranks", required_argument, NULL, 'r'},    {"interval", required_argument, NULL, 'i'},
        {"duration", required_argument, NULL, 't'}, {"overlap", required_argument, NULL, 'o'},
        {"limit", required_argument, NULL, 'l'},    {"seed", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0},
    };
    double value = 0;
    int option;

    *options = (struct options){
        .interval_ms = 50, .overlap = 10, .limit_ms = 6000, .duration_s = 10, .seed = 1};
    strcpy(options->fabric.name, "fast");
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (strchr("ritosl", option))
            number_read("option", optarg, 1e6, &value);
        switch (option) {
        case 'd':
            options->dir = optarg;
            break;
        case 'f':
            snprintf(options->fabric.name, sizeof options->fabric.name, "%s", optarg);
            break;
        case 'r':
            options->ranks = (unsigned)value;
            break;
        case 'i':
            options->interval_ms = (unsigned)value;
            break;
        case 't':
            options->duration_s = value;
            break;
        case 'o':
            options->overlap = (unsigned)value;
            break;
        case 'l':
            options->limit_ms = (unsigned)value;
            break;
        case 's':
            options->seed = (uint64_t)value;
            break;
        case 'h':
            fputs(usage_text, stdout);
            exit(0);
        default:
            exit(2);
        }
    }
    if (!options->dir || options->ranks < 1 || options->ranks > RANKS_MAX) {
        fprintf(stderr, "switch-storm: --dir and --ranks (1 to %d) are needed\n", RANKS_MAX);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static struct storm storm;
    bool good;
    unsigned i;

    options_parse(&storm.options, argc, argv);
    good = storm_connect(&storm) && storm_rage(&storm) && storm_settle(&storm);
    printf("{\"ranks\": %u, \"releases\": %u, \"resumes\": %u, \"overlapped\": %u, "
           "\"overtaken\": %u, \"failed\": %u, \"longest_release_ms\": %llu, "
           "\"longest_resume_ms\": %llu, \"complete\": %s}\n",
           storm.rank_count, storm.releases, storm.resumes, storm.overlapped, storm.overtaken,
           storm.failed, (unsigned long long)storm.longest_release_ms,
           (unsigned long long)storm.longest_resume_ms, good ? "true" : "false");
    for (i = 0; i < storm.rank_count; i++)
        symvirt_requester_destroy(storm.ranks[i].requester);
    return good && storm.failed == 0 ? 0 : 1;
}
