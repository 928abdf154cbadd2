/* A process of the tests that uses a fabric: does as told by its command line when asked to release
 * or resume. SPDX-License-Identifier: BSD-3-Clause
 *
 * client-process SOCKET|- [AGENT_SOCKET|-] [MODE] [FILE]
 *   ok       completes at once (default)
 *   fail     completes with EBUSY and a sentence
 *   silent   never completes
 *   links    as ok, and has 600 links to peers, of which it tells a page at a time
 *   liar     as ok, and tells nonsense about its links
 *   parent   as ok, and has a child that keeps all descriptors, until standard input ends
 * FILE stands for a device node: open unless released (in mode ok).
 * Prints a line for every callback; ends at end of file on its standard input.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "symvirt.h"

static struct symvirt_client *client;
static const char *mode = "ok";
static const char *device_path;
static int device_fd = -1;

static void open_device(void)
{
    if (device_path && device_fd < 0)
        device_fd = open(device_path, O_RDWR | O_CLOEXEC);
}

static void finish(uint64_t op)
{
    if (strcmp(mode, "fail") && strcmp(mode, "silent"))
        symvirt_client_complete(client, op, 0, NULL, NULL);
    if (!strcmp(mode, "fail"))
        symvirt_client_complete(client, op, EBUSY, "told to fail", NULL);
}

static void on_release(void *ctx, uint64_t op, const struct symvirt_fabric *fabric)
{
    printf("release %s%s\n", fabric->name, fabric->uuid);
    symvirt_client_progress(client, op, "releasing");
    if (device_fd >= 0 && !strcmp(mode, "ok")) {
        close(device_fd);
        device_fd = -1;
    }
    finish(op);
}

static void on_resume(void *ctx, uint64_t op, const struct symvirt_fabric *fabric)
{
    printf("resume %s%s %s %llu\n", fabric->name, fabric->uuid, fabric->device,
           (unsigned long long)fabric->epoch);
    open_device();
    finish(op);
}

static void on_abort(void *ctx, uint64_t op)
{
    printf("abort\n");
    symvirt_client_complete(client, op, ECANCELED, "undone", NULL);
}

static void on_present(void *ctx, const struct symvirt_fabric *fabric)
{
    printf("present %s %s %llu\n", fabric->name, fabric->device, (unsigned long long)fabric->epoch);
}

static void on_agent(void *ctx, int connected)
{
    printf("agent %s\n", connected ? "connected" : "lost");
}

static json_t *on_status(void *ctx)
{
    return json_pack("{s:s}", "mode", mode);
}

static json_t *on_links(void *ctx, uint64_t first)
{
    json_t *page;

    if (!strcmp(mode, "liar"))
        return json_pack("{s:s, s:i, s:f, s:[s, [i, s, i, s], [], [n, n, s, f]]}", "job", "\x01",
                         "rank", -7, "total", 3.5, "links", "x", -1, "y", 3, "z", "\x1b[2Jib\n",
                         1e300);
    if (strcmp(mode, "links"))
        return NULL;
    page = json_array();
    for (uint64_t i = first; i < 600 && json_array_size(page) < SYMVIRT_LINKS_PAGE; i++)
        json_array_append_new(page, json_pack("[i, I, s, f]", 9, (json_int_t)i,
                                              i % 2 ? "ib0" : "lifeline", (double)i));
    return json_pack("{s:i, s:i, s:i, s:I, s:o}", "job", 9, "rank", 3, "total", 600, "first",
                     (json_int_t)first, "links", page);
}

int main(int argc, char **argv)
{
    static const struct symvirt_client_callbacks callbacks = {
        .release = on_release,
        .resume = on_resume,
        .abort = on_abort,
        .status = on_status,
        .links = on_links,
        .fabric_present = on_present,
        .agent_connected = on_agent,
    };
    int rc;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 3)
        mode = argv[3];
    if (argc > 4)
        device_path = argv[4];
    open_device();
    rc = symvirt_client_create(&client, "test process", &callbacks, NULL);
    if (!rc && strcmp(argv[1], "-"))
        rc = symvirt_client_listen(client, argv[1]);
    if (!rc && argc > 2 && strcmp(argv[2], "-"))
        rc = symvirt_client_connect_agent(client, argv[2]);
    if (rc) {
        fprintf(stderr, "client-process: %s\n", strerror(-rc));
        return 1;
    }
    puts("ready");
    if (!strcmp(mode, "parent") && fork() == 0) {
        while (read(STDIN_FILENO, &rc, sizeof(rc)) > 0)
            ;
        _exit(0);
    }
    for (;;) {
        struct pollfd polled[2] = {{.fd = symvirt_client_fd(client), .events = POLLIN},
                                   {.fd = STDIN_FILENO, .events = POLLIN}};
        char ignored[64];

        poll(polled, 2, symvirt_client_timeout_ms(client));
        if (polled[1].revents && read(STDIN_FILENO, ignored, sizeof(ignored)) <= 0)
            break;
        symvirt_client_dispatch(client);
    }
    symvirt_client_destroy(client);
    return 0;
}
