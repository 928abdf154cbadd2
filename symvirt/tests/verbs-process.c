/* A program without MPI that uses a fabric's HCA by verbs: gives it up when told to, and takes it
 * again. SPDX-License-Identifier: BSD-3-Clause
 *
 * verbs-process [AGENT_SOCKET]: holds a context, a protection domain, a completion queue and a
 * registered buffer. Prints a line for all that happens; ends at end of file on its standard input.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <infiniband/verbs.h>

#include "symvirt.h"

static struct symvirt_client *client;
static char buffer[65536];
static struct {
    struct ibv_context *context;
    struct ibv_pd *domain;
    struct ibv_cq *queue;
    struct ibv_mr *region;
} hca;

static void hca_close(void)
{
    if (hca.region)
        ibv_dereg_mr(hca.region);
    if (hca.queue)
        ibv_destroy_cq(hca.queue);
    if (hca.domain)
        ibv_dealloc_pd(hca.domain);
    if (hca.context)
        ibv_close_device(hca.context);
    memset(&hca, 0, sizeof(hca));
}

/* Opens the device named 'name' and all that hangs on it. Returns 0 or an errno. */
static int hca_open(const char *name)
{
    struct ibv_device **list;
    int count = 0;

    if (hca.context)
        return 0;
    list = ibv_get_device_list(&count);
    for (int i = 0; i < count; i++)
        if (!strcmp(ibv_get_device_name(list[i]), name))
            hca.context = ibv_open_device(list[i]);
    if (list)
        ibv_free_device_list(list);
    if (!hca.context)
        return ENODEV;
    hca.domain = ibv_alloc_pd(hca.context);
    hca.queue = ibv_create_cq(hca.context, 16, NULL, NULL, 0);
    if (hca.domain)
        hca.region = ibv_reg_mr(hca.domain, buffer, sizeof(buffer), IBV_ACCESS_LOCAL_WRITE);
    if (hca.region && hca.queue)
        return 0;
    hca_close();
    return EIO;
}

static void on_release(void *ctx, uint64_t op, const struct symvirt_fabric *fabric)
{
    hca_close();
    printf("released %s\n", fabric->name);
    symvirt_client_complete(client, op, 0, NULL, NULL);
}

static void on_resume(void *ctx, uint64_t op, const struct symvirt_fabric *fabric)
{
    int error = hca_open(fabric->device);

    printf("resumed %s: %s\n", fabric->name, error ? strerror(error) : fabric->device);
    symvirt_client_complete(client, op, error, NULL, NULL);
}

static void on_present(void *ctx, const struct symvirt_fabric *fabric)
{
    int error = hca_open(fabric->device);

    printf("present %s: %s\n", fabric->name, error ? strerror(error) : fabric->device);
}

static json_t *on_status(void *ctx)
{
    return json_pack("{s:b}", "holds_hca", hca.context != NULL);
}

int main(int argc, char **argv)
{
    static const struct symvirt_client_callbacks callbacks = {.release = on_release,
                                                              .resume = on_resume,
                                                              .status = on_status,
                                                              .fabric_present = on_present};
    int rc;

    setvbuf(stdout, NULL, _IOLBF, 0);
    rc = symvirt_client_create(&client, "verbs-process", &callbacks, NULL);
    if (!rc)
        rc = symvirt_client_connect_agent(client, argc > 1 ? argv[1] : NULL);
    if (rc) {
        fprintf(stderr, "verbs-process: %s\n", strerror(-rc));
        return 1;
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
    hca_close();
    return 0;
}
