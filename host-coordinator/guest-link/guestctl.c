/* ninja-guestctl: asks the agent in a VM to release or resume a fabric, and plugs its device out or
 * in. SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <libvirt/virterror.h>

#include "guestctl.h"

static const char usage_text[] =
    "usage: ninja-guestctl [options] VM COMMAND\n"
    "\n"
    "  VM release FABRIC  the VM's processes give up the fabric's device; done when\n"
    "                     nobody in the VM holds it\n"
    "  VM resume FABRIC   wait until the device is usable, then processes use it again\n"
    "  VM status          what the VM's agent knows (with --json: all of it)\n"
    "  VM ranks           which transport each link of each rank uses, since when\n"
    "  VM ping            is the agent alive?\n"
    "  VM settime         step the VM's clock to this host's\n"
    "  VM detach ALIAS    unplug the device with this alias; done when it is gone from\n"
    "                     the live and the persistent definition\n"
    "  VM attach FILE     plug in the device that FILE describes (libvirt's XML)\n"
    "\n"
    "  --connect URI      libvirt (default: libvirt's own default)\n"
    "  --socket PATH      the channel's unix socket instead of libvirt's stream (VM is\n"
    "                     then only a name for messages)\n"
    "  --force            take the channel from a program that has it open\n"
    "  --uuid UUID        the fabric's UUID; --epoch N the attachment's number\n"
    "  --mac MAC, --pci ADDRESS, --netdev NAME, --device NAME\n"
    "                     how the guest tells the fabric's device\n"
    "  --timeout S        default: release 10, resume 130, detach 30, others 10\n"
    "  --json             print a JSON object\n"
    "\n"
    "Exit status: 0 done; 1 refused or failed, with the reason; 2 wrong use or no such\n"
    "VM; 3 not done within the time limit.\n";

int64_t guestctl_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int guestctl_report(const struct guestctl_options *options, int error, const char *message,
                    const json_t *detail, int64_t begin_ms)
{
    double seconds = (double)(guestctl_now_ms() - begin_ms) / 1000;
    char text[600];

    guest_link_printable(text, sizeof(text),
                         message && *message ? message
                         : error             ? strerror(error)
                                             : "");
    if (options->json) {
        json_t *object = json_pack("{s:s, s:s, s:b, s:i, s:s, s:f}", "vm", options->vm, "command",
                                   options->command, "ok", error == 0, "error", error, "message",
                                   text, "seconds", seconds);

        if (detail)
            json_object_set_new(object, "detail", json_deep_copy(detail));
        json_dumpf(object, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
        putchar('\n');
        json_decref(object);
    } else {
        printf("%s: %s%s%s: %s after %.3f s%s%s\n", options->vm, options->command,
               options->argument ? " " : "", options->argument ? options->argument : "",
               error ? "FAILED" : "done", seconds, *text ? ": " : "", text);
    }
    if (!error)
        return GUESTCTL_OK;
    return error == ETIMEDOUT ? GUESTCTL_TIMEOUT : GUESTCTL_FAILED;
}

int guestctl_report_libvirt(const struct guestctl_options *options, const char *what,
                            int64_t begin_ms)
{
    char text[512];

    snprintf(text, sizeof(text), "%s: %s", what, virGetLastErrorMessage());
    return guestctl_report(options, EIO, text, NULL, begin_ms);
}

static void usage_error(const char *what, const char *which)
{
    fprintf(stderr, "ninja-guestctl: %s%s; see ninja-guestctl --help\n", what, which);
    exit(GUESTCTL_USAGE);
}

static double parse_number(const char *option, const char *text, double max)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= 0) || value > max) {
        fprintf(stderr, "ninja-guestctl: --%s needs a number from 0 to %.0f, not '%s'\n", option,
                max, text);
        exit(GUESTCTL_USAGE);
    }
    return value;
}

/* VM COMMAND [ARGUMENT] */
static void parse_words(struct guestctl_options *options, char **words, int count)
{
    static const struct {
        const char *name;
        const char *argument; /* what it must be given; NULL: nothing */
        int timeout_ms;
    } commands[] = {
        {"release", "a FABRIC", SYMVIRT_COORDINATOR_TIMEOUT_MS},
        {"resume", "a FABRIC", 130000},
        {"status", NULL, SYMVIRT_COORDINATOR_TIMEOUT_MS},
        {"ranks", NULL, SYMVIRT_COORDINATOR_TIMEOUT_MS},
        {"ping", NULL, SYMVIRT_COORDINATOR_TIMEOUT_MS},
        {"settime", NULL, SYMVIRT_COORDINATOR_TIMEOUT_MS},
        {"detach", "the device's ALIAS", 30000},
        {"attach", "a FILE with the device's XML", SYMVIRT_COORDINATOR_TIMEOUT_MS},
    };

    if (count < 2)
        usage_error("say which VM and what to do", "");
    options->vm = words[0];
    options->command = words[1];
    options->argument = words[2];
    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
        if (strcmp(commands[i].name, options->command))
            continue;
        if (count != (commands[i].argument ? 3 : 2))
            usage_error(options->command,
                        commands[i].argument ? " needs one argument" : " takes no argument");
        if (!options->timeout_ms)
            options->timeout_ms = commands[i].timeout_ms;
        return;
    }
    usage_error("unknown command ", options->command);
}

/* Checks what was said about the fabric. */
static void parse_fabric(struct guestctl_options *options)
{
    struct symvirt_fabric checked;

    if (strcmp(options->command, "release") && strcmp(options->command, "resume"))
        return;
    json_object_set_new(options->fabric, "name", json_string(options->argument));
    if (symvirt_fabric_from_json(options->fabric, &checked))
        usage_error(
            "FABRIC (31 characters at most), UUID and device consist of letters, digits and ._:-",
            "");
}

static void parse_options(struct guestctl_options *options, int argc, char **argv)
{
    static const struct option known[] = {
        {"connect", required_argument, NULL, 'c'}, {"socket", required_argument, NULL, 's'},
        {"force", no_argument, NULL, 'f'},         {"uuid", required_argument, NULL, 1},
        {"epoch", required_argument, NULL, 'e'},   {"mac", required_argument, NULL, 1},
        {"pci", required_argument, NULL, 1},       {"netdev", required_argument, NULL, 1},
        {"device", required_argument, NULL, 1},    {"timeout", required_argument, NULL, 't'},
        {"json", no_argument, NULL, 'J'},          {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},       {NULL, 0, NULL, 0},
    };
    int option, index = 0;

    options->fabric = json_pack("{s:s, s:i}", "uuid", "", "epoch", 0);
    while ((option = getopt_long(argc, argv, "hc:", known, &index)) != -1) {
        switch (option) {
        case 'c':
            options->uri = optarg;
            break;
        case 's':
            options->socket = optarg;
            break;
        case 'f':
            options->force = 1;
            break;
        case 1: /* the option's name is the member's */
            json_object_set_new(options->fabric, known[index].name, json_string(optarg));
            break;
        case 'e':
            json_object_set_new(options->fabric, "epoch",
                                json_integer((json_int_t)parse_number("epoch", optarg, 9e15)));
            break;
        case 't':
            options->timeout_ms = (int)(parse_number("timeout", optarg, 86400) * 1000);
            break;
        case 'J':
            options->json = 1;
            break;
        case 'h':
            fputs(usage_text, stdout);
            exit(GUESTCTL_OK);
        case 'V':
            puts("ninja-guestctl " PACKAGE_VERSION);
            exit(GUESTCTL_OK);
        default:
            exit(GUESTCTL_USAGE);
        }
    }
    parse_words(options, argv + optind, argc - optind);
    parse_fabric(options);
}

/* libvirt prints its errors itself unless it is told not to: we report them. */
static void on_libvirt_error(void *ctx, virErrorPtr error)
{
}

static int run(const struct guestctl_options *options)
{
    virConnectPtr connection;
    virDomainPtr domain;
    int code = GUESTCTL_USAGE;

    if (options->socket)
        return guestctl_ask_agent(options, NULL);
    connection = virConnectOpen(options->uri);
    if (!connection) {
        fprintf(stderr, "ninja-guestctl: %s\n", virGetLastErrorMessage());
        return code;
    }
    virConnectSetKeepAlive(connection, 5, 3);
    domain = virDomainLookupByName(connection, options->vm);
    if (!domain)
        fprintf(stderr, "ninja-guestctl: %s\n", virGetLastErrorMessage());
    else if (!strcmp(options->command, "detach"))
        code = guestctl_detach(options, domain);
    else if (!strcmp(options->command, "attach"))
        code = guestctl_attach(options, domain);
    else
        code = guestctl_ask_agent(options, domain);
    if (domain)
        virDomainFree(domain);
    virConnectClose(connection);
    return code;
}

int main(int argc, char **argv)
{
    struct guestctl_options options = {.uri = NULL};
    int code;

    parse_options(&options, argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    virSetErrorFunc(NULL, on_libvirt_error);
    if (virInitialize() || virEventRegisterDefaultImpl()) {
        fputs("ninja-guestctl: libvirt does not start\n", stderr);
        return GUESTCTL_FAILED;
    }
    code = run(&options);
    json_decref(options.fabric);
    return code;
}
