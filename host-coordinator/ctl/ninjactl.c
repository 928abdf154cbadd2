/* ninjactl: asks ninjad to show and move virtual clusters. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <jansson.h>

#include "render.h"

#define SOCKET_PATH "/run/ninja/ninjad.sock"

#define RECONNECT_S 60

enum { EXIT_DONE, EXIT_FAILED, EXIT_REFUSED, EXIT_DEGRADED };

static struct {
    const char *socket;
    int json, plan, parallel, limit;
    const char *to;
    FILE *stream;
} ctl = {.socket = SOCKET_PATH};

static void usage(FILE *to)
{
    fputs("usage: ninjactl [OPTION...] COMMAND\n\n"
          "  status                       hosts, HCAs and VMs\n"
          "  migrate CLUSTER|VM --to SITE|HOST\n"
          "                               move it while it runs\n"
          "      --plan                   check everything and tell the plan, change nothing\n"
          "      --parallel N             N VMs at a time (1)\n"
          "  release VM FABRIC            the VM's ranks give up the fabric's device\n"
          "  resume VM FABRIC             the VM's ranks use it again\n"
          "  ranks CLUSTER|VM             which transport each link of each rank uses, since when\n"
          "  abort MOVE                   undo a move before its point of no return\n"
          "  history [--limit N]          moves and the times of their phases\n"
          "  explain MOVE                 what a move went through and what it waits for\n\n"
          "  --json                       answers for programs: one JSON object a line\n"
          "  -s, --socket FILE            of ninjad (" SOCKET_PATH ", or NINJAD_SOCKET)\n"
          "  -h, --help                   this text\n\n"
          "Exit code: 0 done; 1 failed, the VM is where it was; 2 refused, nothing was changed;\n"
          "3 the VM has moved but something is missing, such as its HCA, and is tried again.\n",
          to);
}

/* Complains. Returns EXIT_FAILED. */
static int fail(const char *what, const char *why)
{
    fprintf(stderr, "ninjactl: %s%s\n", what, why);
    return EXIT_FAILED;
}

/* Connects. Returns 0 or -1. */
static int dial_quietly(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || strlen(ctl.socket) >= sizeof(address.sun_path))
        return -1;
    strcpy(address.sun_path, ctl.socket);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        close(fd);
        return -1;
    }
    ctl.stream = fdopen(fd, "r+");
    return ctl.stream ? 0 : -1;
}

/* Sends 'request' (reference taken). */
static int ask(json_t *request)
{
    char *text = json_dumps(request, JSON_COMPACT);
    int rc = text && fprintf(ctl.stream, "%s\n", text) > 0 && !fflush(ctl.stream) ? 0 : -1;

    json_decref(request);
    free(text);
    return rc ? fail("ninjad does not take the request", "") : 0;
}

/* The next answer: a new reference, or NULL if ninjad is gone. */
static json_t *answer(void)
{
    static char *line;
    static size_t size;
    json_t *message = NULL;

    if (getline(&line, &size, ctl.stream) > 0)
        message = json_loads(line, 0, NULL);
    return message;
}

static void print_json(const json_t *message)
{
    json_dumpf(message, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
}

/* Exit code of an answer that is an error, after printing it; 0 if it is none. */
static int error_of(const json_t *message)
{
    const char *text = json_string_value(json_object_get(message, "error"));

    if (!text)
        return 0;
    render_end();
    if (ctl.json)
        print_json(message);
    else
        fprintf(stderr, "ninjactl: %s\n", text);
    return (int)json_integer_value(json_object_get(message, "code"));
}

/* One request, one answer. */
static int command_simple(json_t *request, void (*render)(const json_t *message))
{
    json_t *message;
    int code = ask(request);

    if (code)
        return code;
    message = answer();
    if (!message)
        return fail("ninjad ended the connection", "");
    code = error_of(message);
    if (!code && ctl.json)
        print_json(message);
    else if (!code && render)
        render(message);
    json_decref(message);
    return code;
}

static json_int_t plan_shown;

static void render_history(const json_t *message)
{
    render_moves(json_object_get(message, "moves"), plan_shown);
}

/* ninjad may be restarted in the middle of a plan: it takes the plan up, and so does this. */
static int follow_again(void)
{
    int tries = RECONNECT_S * 5;

    if (!plan_shown)
        return fail("ninjad ended the connection", "");
    render_end();
    fprintf(stderr, "ninjactl: ninjad ended the connection; waiting for it to come back\n");
    fclose(ctl.stream);
    for (ctl.stream = NULL; tries > 0; tries--) {
        usleep(200000);
        if (!dial_quietly() &&
            !ask(json_pack("{s:s, s:I}", "request", "follow", "plan", plan_shown)))
            return 0;
    }
    return fail("no ninjad answers at ", ctl.socket);
}

/* Shows what happens until the plan ends. */
static int watch_plan(void)
{
    json_t *message;
    int code = 0, ended = 0;

    while (!ended) {
        message = answer();
        if (!message) {
            if (follow_again())
                return EXIT_FAILED;
            continue;
        }
        const char *event = json_string_value(json_object_get(message, "event"));

        code = error_of(message);
        if (code || !event) {
            ended = 1;
        } else {
            if (ctl.json)
                print_json(message);
            if (!strcmp(event, "plan")) {
                plan_shown = json_integer_value(json_object_get(message, "plan"));
                if (!ctl.json)
                    render_plan(message);
            } else if (!strcmp(event, "end")) {
                ended = 1;
                if (!json_is_true(json_object_get(message, "ok")))
                    code = json_is_true(json_object_get(message, "degraded")) ? EXIT_DEGRADED
                                                                              : EXIT_FAILED;
            } else if (!ctl.json) {
                render_event(message);
            }
        }
        json_decref(message);
    }
    return code;
}

static int command_migrate(const char *what)
{
    int code;

    if (!ctl.to) {
        fputs("ninjactl: migrate needs --to SITE or HOST\n", stderr);
        return EXIT_REFUSED;
    }
    code = ask(json_pack("{s:s, s:s, s:s, s:b, s:i}", "request", "migrate", "what", what, "to",
                         ctl.to, "plan", ctl.plan, "parallel", ctl.parallel));
    if (!code)
        code = watch_plan();
    render_end();
    if (plan_shown && !ctl.json)
        command_simple(json_pack("{s:s}", "request", "history"), render_history);
    return code;
}

static void render_ok(const json_t *message)
{
    puts("done");
}

static int command_number(const char *request, const char *number,
                          void (*render)(const json_t *message))
{
    char *end;
    long long id = strtoll(number, &end, 10);

    if (*end || id <= 0) {
        fprintf(stderr, "ninjactl: '%s' is no number of a move; see ninjactl history\n", number);
        return EXIT_REFUSED;
    }
    return command_simple(json_pack("{s:s, s:I}", "request", request, "move", (json_int_t)id),
                          render);
}

static int run(int count, char **words)
{
    const char *command = words[0];

    if (!strcmp(command, "status") && count == 1)
        return command_simple(json_pack("{s:s}", "request", "status"), render_status);
    if (!strcmp(command, "migrate") && count == 2)
        return command_migrate(words[1]);
    if ((!strcmp(command, "release") || !strcmp(command, "resume")) && count == 3)
        return command_simple(
            json_pack("{s:s, s:s, s:s}", "request", command, "vm", words[1], "fabric", words[2]),
            render_ok);
    if (!strcmp(command, "ranks") && count == 2)
        return command_simple(json_pack("{s:s, s:s}", "request", "ranks", "what", words[1]),
                              render_ranks);
    if (!strcmp(command, "abort") && count == 2)
        return command_number("abort", words[1], render_ok);
    if (!strcmp(command, "history") && count == 1)
        return command_simple(json_pack("{s:s, s:i}", "request", "history", "limit", ctl.limit),
                              render_history);
    if (!strcmp(command, "explain") && count == 2)
        return command_number("explain", words[1], render_explanation);
    usage(stderr);
    return EXIT_REFUSED;
}

static int positive(const char *text, const char *option)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (*end || value < 1 || value > 100000) {
        fprintf(stderr, "ninjactl: %s takes a number from 1\n", option);
        exit(EXIT_REFUSED);
    }
    return (int)value;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"to", required_argument, NULL, 't'},       {"plan", no_argument, NULL, 'p'},
        {"parallel", required_argument, NULL, 'n'}, {"limit", required_argument, NULL, 'l'},
        {"json", no_argument, NULL, 'j'},           {"socket", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},           {0}};
    int letter, code;

    if (getenv("NINJAD_SOCKET"))
        ctl.socket = getenv("NINJAD_SOCKET");
    while ((letter = getopt_long(argc, argv, "s:h", known, NULL)) >= 0) {
        switch (letter) {
        case 't':
            ctl.to = optarg;
            break;
        case 'p':
            ctl.plan = 1;
            break;
        case 'n':
            ctl.parallel = positive(optarg, "--parallel");
            break;
        case 'l':
            ctl.limit = positive(optarg, "--limit");
            break;
        case 'j':
            ctl.json = 1;
            break;
        case 's':
            ctl.socket = optarg;
            break;
        case 'h':
            usage(stdout);
            return 0;
        default:
            usage(stderr);
            return EXIT_REFUSED;
        }
    }
    if (optind == argc) {
        usage(stderr);
        return EXIT_REFUSED;
    }
    signal(SIGPIPE, SIG_IGN);
    code = dial_quietly() ? fail("no ninjad answers at ", ctl.socket) : 0;
    return code ? code : run(argc - optind, argv + optind);
}
