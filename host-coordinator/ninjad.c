/* ninjad: the coordinator's daemon. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "coordinator.h"
#include "loop.h"
#include "move.h"
#include "server.h"

#define INVENTORY_PATH "/etc/ninja/inventory.yaml"
#define JOURNAL_PATH   "/var/lib/ninja/journal.db"

static volatile sig_atomic_t end_signal;

static void usage(FILE *to)
{
    fputs("usage: ninjad [OPTION...]\n\n"
          "Moves the VMs of virtual clusters between hosts and sites, as ninjactl asks.\n\n"
          "  -i, --inventory FILE  sites, hosts, HCAs and clusters (" INVENTORY_PATH ")\n"
          "  -j, --journal FILE    what was done and is to be done (" JOURNAL_PATH ")\n"
          "  -s, --socket FILE     where ninjactl finds the daemon (" API_SOCKET ")\n"
          "  -l, --link-limit S    seconds until the port of a new HCA must be ACTIVE (120)\n"
          "  -c, --check           only check the inventory; exit code 2 if it is wrong\n"
          "  -h, --help            this text\n",
          to);
}

static void on_signal(int number)
{
    end_signal = number;
}

/* Signals only mark; this notices. */
static void on_second(void *arg)
{
    struct loop_timer *timer = arg;

    loop_timer_start(timer, 500, on_second, timer);
}

static void quiet(void *ctx, virErrorPtr error)
{
}

struct options {
    const char *inventory, *journal, *socket;
    int check, link_limit_s;
};

static int run(const struct options *options, const struct inventory *inventory)
{
    static struct coordinator coordinator;
    struct sigaction action = {.sa_handler = on_signal};
    struct loop_timer second = {0};
    int rc;

    coordinator.inventory = inventory;
    coordinator.tell = api_tell;
    coordinator.link_limit_s = options->link_limit_s;
    rc = journal_open(&coordinator.journal, options->journal);
    if (rc) {
        fprintf(stderr, "ninjad: %s: %s\n", options->journal,
                rc == -EBUSY ? "another ninjad uses it" : "cannot be opened");
        return 1;
    }
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    virSetErrorFunc(NULL, quiet);
    if (virInitialize() < 0 || loop_start() || coordinator_start(&coordinator) ||
        api_start(&coordinator, options->socket))
        return 1;
    log_line("ninjad: ready at %s", options->socket);
    on_second(&second);
    while (!end_signal && !loop_turn())
        plan_reap(&coordinator);
    log_line("ninjad: ends; what is unfinished is in the journal");
    api_stop();
    journal_close(coordinator.journal);
    /* Threads may be in a call to libvirt: no orderly way out of that. */
    fflush(NULL);
    _Exit(0);
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"inventory", required_argument, NULL, 'i'},
                                          {"journal", required_argument, NULL, 'j'},
                                          {"socket", required_argument, NULL, 's'},
                                          {"link-limit", required_argument, NULL, 'l'},
                                          {"check", no_argument, NULL, 'c'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    struct options options = {INVENTORY_PATH, JOURNAL_PATH, API_SOCKET, 0, 120};
    struct inventory *inventory;
    char error[SENTENCE_MAX];
    int letter;

    while ((letter = getopt_long(argc, argv, "i:j:s:l:ch", known, NULL)) >= 0) {
        switch (letter) {
        case 'i':
            options.inventory = optarg;
            break;
        case 'j':
            options.journal = optarg;
            break;
        case 's':
            options.socket = optarg;
            break;
        case 'l':
            options.link_limit_s = atoi(optarg);
            if (options.link_limit_s < 3 || options.link_limit_s > 3600) {
                fputs("ninjad: --link-limit takes 3 to 3600 seconds\n", stderr);
                return 2;
            }
            break;
        case 'c':
            options.check = 1;
            break;
        case 'h':
            usage(stdout);
            return 0;
        default:
            usage(stderr);
            return 2;
        }
    }
    if (inventory_load(options.inventory, &inventory, error)) {
        fprintf(stderr, "ninjad: %s\n", error);
        return 2;
    }
    if (options.check) {
        printf("%s: %u sites, %u hosts, %u clusters, %u VMs\n", options.inventory,
               inventory->sites_count, inventory->hosts_count, inventory->clusters_count,
               inventory->all_vms_count);
        inventory_destroy(inventory);
        return 0;
    }
    return run(&options, inventory);
}
