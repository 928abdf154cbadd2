/* ninja-rankctl: asks all ranks of this machine at once to release or resume a fabric, or for their
 * status. SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "symvirt.h"

enum { EXIT_ALL_OK = 0, EXIT_SOME_FAILED = 1, EXIT_USAGE = 2, EXIT_NO_RANKS = 3 };

struct options {
    enum symvirt_message_type request;
    struct symvirt_fabric fabric;
    const char *directory;
    const char *job; /* NULL: every job */
    long rank;       /* -1: every rank */
    double timeout_s;
    int json;
    int wait;
};

/* A rank, what was asked of it and what it answered. */
struct rank {
    char job[128];
    long number;
    pid_t pid;
    struct symvirt_requester *requester; /* NULL: not reached, or finished */
    uint64_t op;                         /* the last request */
    double seconds;                      /* until it ended */
    json_t *result;                      /* its result message; NULL: none came, or not all of it */
    int error;                           /* errno when there is no result */
};

struct rank_list {
    struct rank *ranks;
    size_t count;
};

static const char usage_text[] =
    "usage: ninja-rankctl [options] release|resume FABRIC\n"
    "       ninja-rankctl [options] status\n"
    "\n"
    "Asks all ranks of this user's MPI jobs on this machine, in parallel, to give up\n"
    "the device of FABRIC (a name or UUID), to use it again, or for their status.\n"
    "\n"
    "  --dir DIR      where the ranks' control sockets lie\n"
    "                 (default: $NINJA_CONTROL_DIR, else /tmp/ninja-ranks-UID)\n"
    "  --job ID       only ranks of this job\n"
    "  --rank N       only this rank\n"
    "  --device NAME  with resume: the RDMA device to use\n"
    "  --epoch N      with resume: the attachment's number\n"
    "  --timeout S    seconds to wait for the ranks (default: 10)\n"
    "  --no-wait      do not wait for release or resume to end (default: --wait)\n"
    "  --json         print a JSON array, one object a rank\n"
    "\n"
    "Exit status: 0 all ranks did it; 1 a rank failed, refused or did not answer in\n"
    "time; 2 wrong use; 3 no rank was found.\n";

static double seconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A number from the command line, or an exit with a message. */
static double parse_number(const char *option, const char *text, double max)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= 0) || value > max) {
        fprintf(stderr, "ninja-rankctl: --%s needs a number from 0 to %.0f, not '%s'\n", option,
                max, text);
        exit(EXIT_USAGE);
    }
    return value;
}

static void usage_error(const char *what, const char *which)
{
    fprintf(stderr, "ninja-rankctl: %s%s; see ninja-rankctl --help\n", what, which);
    exit(EXIT_USAGE);
}

static int looks_like_uuid(const char *text)
{
    static const char shape[] = "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh";

    for (size_t i = 0; i < sizeof(shape); i++)
        if (shape[i] == 'h' ? !isxdigit((unsigned char)text[i]) : text[i] != shape[i])
            return 0;
    return 1;
}

/* Copies command-line text into a fabric's member of 'size' bytes. */
static void copy_argument(char *to, size_t size, const char *what, const char *text)
{
    if (!*text || strlen(text) >= size)
        usage_error(what, " is empty or too long");
    strcpy(to, text);
}

static void parse_words(struct options *options, char **words, int count)
{
    json_t *check;
    struct symvirt_fabric ignored;

    if (!count)
        usage_error("say release, resume or status", "");
    if (!strcmp(words[0], "status"))
        options->request = SYMVIRT_STATUS;
    else if (!strcmp(words[0], "release"))
        options->request = SYMVIRT_RELEASE;
    else if (!strcmp(words[0], "resume"))
        options->request = SYMVIRT_RESUME;
    else
        usage_error("unknown command ", words[0]);
    if (count != (options->request == SYMVIRT_STATUS ? 1 : 2))
        usage_error(options->request == SYMVIRT_STATUS ? "status takes no FABRIC"
                                                       : "say which one FABRIC",
                    "");
    if (options->request == SYMVIRT_STATUS)
        return;
    if (looks_like_uuid(words[1]))
        copy_argument(options->fabric.uuid, sizeof(options->fabric.uuid), "FABRIC", words[1]);
    else
        copy_argument(options->fabric.name, sizeof(options->fabric.name), "FABRIC", words[1]);
    check = symvirt_fabric_to_json(&options->fabric);
    if (symvirt_fabric_from_json(check, &ignored))
        usage_error("FABRIC and DEVICE consist of letters, digits and ._:-", "");
    json_decref(check);
}

static void parse_options(struct options *options, int argc, char **argv)
{
    static const struct option known[] = {
        {"dir", required_argument, NULL, 'd'},   {"job", required_argument, NULL, 'j'},
        {"rank", required_argument, NULL, 'r'},  {"device", required_argument, NULL, 'D'},
        {"epoch", required_argument, NULL, 'e'}, {"timeout", required_argument, NULL, 't'},
        {"no-wait", no_argument, NULL, 'n'},     {"wait", no_argument, NULL, 'w'},
        {"json", no_argument, NULL, 'J'},        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},     {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
        switch (option) {
        case 'd':
            options->directory = optarg;
            break;
        case 'j':
            options->job = optarg;
            break;
        case 'r':
            options->rank = (long)parse_number("rank", optarg, 1e9);
            break;
        case 'D':
            copy_argument(options->fabric.device, sizeof(options->fabric.device), "DEVICE", optarg);
            break;
        case 'e':
            options->fabric.epoch = (uint64_t)parse_number("epoch", optarg, 9e15);
            break;
        case 't':
            options->timeout_s = parse_number("timeout", optarg, 86400);
            break;
        case 'n':
            options->wait = 0;
            break;
        case 'w':
            options->wait = 1;
            break;
        case 'J':
            options->json = 1;
            break;
        case 'h':
            fputs(usage_text, stdout);
            exit(EXIT_ALL_OK);
        case 'V':
            puts("ninja-rankctl " PACKAGE_VERSION);
            exit(EXIT_ALL_OK);
        default:
            exit(EXIT_USAGE);
        }
    }
    parse_words(options, argv + optind, argc - optind);
}

/* Refuses a directory into which others could have put sockets. Returns 0 if there is none. */
static int directory_usable(const char *path)
{
    struct stat info;

    if (lstat(path, &info)) {
        if (errno == ENOENT)
            return 0;
        fprintf(stderr, "ninja-rankctl: %s: %s\n", path, strerror(errno));
        exit(EXIT_USAGE);
    }
    if (!S_ISDIR(info.st_mode) || (geteuid() && info.st_uid != geteuid()) || info.st_mode & 077) {
        fprintf(
            stderr,
            "ninja-rankctl: %s is not a directory that only its owner (you) can enter: not used\n",
            path);
        exit(EXIT_USAGE);
    }
    return 1;
}

/* Splits JOBID.RANK.sock. Returns 0 if 'name' has another shape. */
static int parse_socket_name(const char *name, struct rank *rank)
{
    static const char suffix[] = ".sock";
    size_t length = strlen(name), job_length;
    char copy[256], *dot, *end;

    if (length <= strlen(suffix) || length >= sizeof(copy) ||
        strcmp(name + length - strlen(suffix), suffix))
        return 0;
    memcpy(copy, name, length - strlen(suffix));
    copy[length - strlen(suffix)] = '\0';
    dot = strrchr(copy, '.');
    if (!dot || !isdigit((unsigned char)dot[1]))
        return 0;
    rank->number = strtol(dot + 1, &end, 10);
    job_length = (size_t)(dot - copy);
    if (*end || !job_length || job_length >= sizeof(rank->job))
        return 0;
    memcpy(rank->job, copy, job_length);
    rank->job[job_length] = '\0';
    return 1;
}

static int compare_ranks(const void *a, const void *b)
{
    const struct rank *left = a, *right = b;
    int order = strcmp(left->job, right->job);

    return order ? order : (left->number > right->number) - (left->number < right->number);
}

/* Connects to the rank whose socket is 'path' and sends the request. Returns 0 if nobody lives
 * there. */
static int rank_ask(struct rank *rank, const char *path, const struct options *options)
{
    json_t *message = options->request == SYMVIRT_STATUS
                          ? symvirt_message_request(SYMVIRT_STATUS, 0)
                          : symvirt_message_fabric_request(options->request, 0, &options->fabric);
    int rc = symvirt_requester_connect(&rank->requester, path);

    if (rc == -ECONNREFUSED || rc == -ENOENT) {
        fprintf(stderr,
                "ninja-rankctl: note: job %s rank %ld is gone, its socket %s is stale: skipped\n",
                rank->job, rank->number, path);
        json_decref(message);
        return 0;
    }
    if (!rc) {
        rank->pid = symvirt_requester_peer(rank->requester);
        rc = symvirt_requester_send(rank->requester, message, &rank->op);
    }
    json_decref(message);
    rank->error = -rc;
    if (rc) {
        symvirt_requester_destroy(rank->requester);
        rank->requester = NULL;
    }
    return 1;
}

static void find_ranks(struct rank_list *list, const struct options *options)
{
    DIR *directory = directory_usable(options->directory) ? opendir(options->directory) : NULL;
    struct dirent *entry;

    while (directory && (entry = readdir(directory))) {
        struct rank rank = {.pid = 0};
        struct rank *grown;
        char path[512];

        if (!parse_socket_name(entry->d_name, &rank) ||
            (options->job && strcmp(options->job, rank.job)) ||
            (options->rank >= 0 && options->rank != rank.number))
            continue;
        snprintf(path, sizeof(path), "%s/%s", options->directory, entry->d_name);
        if (!rank_ask(&rank, path, options))
            continue;
        grown = realloc(list->ranks, (list->count + 1) * sizeof(rank));
        if (!grown)
            break;
        list->ranks = grown;
        list->ranks[list->count++] = rank;
    }
    if (directory)
        closedir(directory);
    if (list->count)
        qsort(list->ranks, list->count, sizeof(*list->ranks), compare_ranks);
}

/* Ends the wait for 'rank': with its result, or with an error. */
static void rank_finish(struct rank *rank, int error, double seconds)
{
    if (error) {
        json_decref(rank->result);
        rank->result = NULL;
    }
    rank->error = error;
    rank->seconds = seconds;
    symvirt_requester_destroy(rank->requester);
    rank->requester = NULL;
}

static json_t *told_status(const struct rank *rank)
{
    return json_object_get(json_object_get(rank->result, "detail"), "status");
}

static size_t links_told(const struct rank *rank)
{
    return json_array_size(json_object_get(told_status(rank), "links"));
}

/* Keeps a result, or adds a further page of links to the one that is kept. */
static void rank_take(struct rank *rank, json_t *message)
{
    const json_t *page;

    if (!rank->result) {
        rank->result = message;
        return;
    }
    page = json_object_get(json_object_get(message, "detail"), SYMVIRT_STATUS_DETAILS);
    json_array_extend(json_object_get(told_status(rank), "links"), json_object_get(page, "links"));
    json_decref(message);
}

/* A status with many links comes in pages: asks for the next one if 'rank' has told more of them
 * than before. Returns 0 if that was all, 1 if a page will come, or a negative errno. */
static int rank_ask_more(struct rank *rank, size_t before)
{
    size_t links = links_told(rank);
    json_t *message;
    int rc;

    if (links == before || links >= symvirt_message_number(told_status(rank), "links_total", 0))
        return 0;
    message = symvirt_message_details_request(0, links);
    rc = symvirt_requester_send(rank->requester, message, &rank->op);
    json_decref(message);
    return rc ? rc : 1;
}

/* Takes what has come from 'rank'. */
static void rank_receive(struct rank *rank, double seconds)
{
    json_t *message;
    int rc;

    while (!(rc = symvirt_requester_receive(rank->requester, &message))) {
        enum symvirt_message_type type;

        if (!symvirt_message_check(message, &type) && type == SYMVIRT_RESULT &&
            symvirt_message_op(message) == rank->op) {
            size_t before = links_told(rank);

            rank_take(rank, message);
            rc = rank_ask_more(rank, before);
            if (rc <= 0) {
                rank_finish(rank, -rc, seconds);
                return;
            }
        } else {
            json_decref(message);
        }
    }
    if (rc != -EAGAIN)
        rank_finish(rank, -rc, seconds);
}

/* Waits for the results of all ranks until the time limit. */
static void collect_results(struct rank_list *list, double timeout_s)
{
    double begin = seconds_now();
    struct pollfd *polled = calloc(list->count + 1, sizeof(*polled));

    if (!polled) {
        fputs("ninja-rankctl: out of memory\n", stderr);
        exit(EXIT_SOME_FAILED);
    }
    for (;;) {
        double left = begin + timeout_s - seconds_now();
        size_t waiting = 0;

        for (size_t i = 0; i < list->count; i++) {
            struct rank *rank = &list->ranks[i];

            polled[i] = (struct pollfd){.fd = -1, .events = POLLIN};
            if (rank->requester && left <= 0)
                rank_finish(rank, ETIMEDOUT, timeout_s);
            if (rank->requester) {
                polled[i].fd = symvirt_requester_fd(rank->requester);
                waiting++;
            }
        }
        if (!waiting)
            break;
        poll(polled, list->count, (int)(left * 1000) + 1);
        for (size_t i = 0; i < list->count; i++)
            if (polled[i].revents)
                rank_receive(&list->ranks[i], seconds_now() - begin);
    }
    free(polled);
}

static int rank_ok(const struct rank *rank)
{
    return rank->result ? json_is_true(json_object_get(rank->result, "ok")) : !rank->error;
}

/* What went wrong in words: the rank's own, or the system's. */
static const char *rank_message(const struct rank *rank)
{
    const char *text = symvirt_message_text(rank->result, "message");
    int error = rank->result ? (int)symvirt_message_number(rank->result, "error", 0) : rank->error;

    if (*text)
        return text;
    if (!rank->result && error == ETIMEDOUT)
        return "no answer within the time limit";
    if (!rank->result && error == ECONNRESET)
        return "the rank ended before it answered";
    return error ? strerror(error) : "";
}

static void print_line(const struct rank *rank, const struct options *options)
{
    json_t *status = told_status(rank);
    char *status_text = status ? json_dumps(status, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    const char *message = rank_message(rank);

    printf("job %s rank %ld pid %ld: %s %s", rank->job, rank->number, (long)rank->pid,
           symvirt_message_type_name(options->request), rank_ok(rank) ? "ok" : "FAILED");
    if (rank->result)
        printf(" after %.3f s", rank->seconds);
    printf("%s%s%s%s\n", *message ? ": " : "", message, status_text ? " " : "",
           status_text ? status_text : "");
    free(status_text);
}

static void print_json(const struct rank_list *list)
{
    json_t *all = json_array();

    for (size_t i = 0; i < list->count; i++) {
        const struct rank *rank = &list->ranks[i];

        json_array_append_new(
            all, json_pack("{s:s, s:I, s:I, s:b, s:i, s:s, s:f, s:O*}", "job", rank->job, "rank",
                           (json_int_t)rank->number, "pid", (json_int_t)rank->pid, "ok",
                           rank_ok(rank), "error",
                           rank->result ? (int)symvirt_message_number(rank->result, "error", 0)
                                        : rank->error,
                           "message", rank_message(rank), "seconds", rank->seconds, "detail",
                           json_object_get(rank->result, "detail")));
    }
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

int main(int argc, char **argv)
{
    struct options options = {
        .rank = -1, .timeout_s = SYMVIRT_COORDINATOR_TIMEOUT_MS / 1000.0, .wait = 1};
    struct rank_list list = {NULL, 0};
    char default_directory[64];
    int failed = 0;

    parse_options(&options, argc, argv);
    if (!options.directory)
        options.directory = getenv("NINJA_CONTROL_DIR");
    if (!options.directory) {
        snprintf(default_directory, sizeof(default_directory), "/tmp/ninja-ranks-%ld",
                 (long)geteuid());
        options.directory = default_directory;
    }
    find_ranks(&list, &options);
    if (options.wait || options.request == SYMVIRT_STATUS)
        collect_results(&list, options.timeout_s);
    if (options.json)
        print_json(&list);
    for (size_t i = 0; i < list.count; i++) {
        if (!options.json)
            print_line(&list.ranks[i], &options);
        failed += !rank_ok(&list.ranks[i]);
        symvirt_requester_destroy(list.ranks[i].requester);
        json_decref(list.ranks[i].result);
    }
    free(list.ranks);
    if (!list.count) {
        fprintf(stderr, "ninja-rankctl: no rank found in %s\n", options.directory);
        return EXIT_NO_RANKS;
    }
    return failed ? EXIT_SOME_FAILED : EXIT_ALL_OK;
}
