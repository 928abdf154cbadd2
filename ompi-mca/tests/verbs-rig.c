/*
 * A real core with a link whose only path is over an RDMA device that is not there.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "verbs-rig.h"

#include <string.h>

struct ninja_core *core;
struct ninja_fabric *fabric;
struct ninja_link *link_to_peer;
struct ninja_path *path;
struct verbs_transport *transport;

static struct ninja_tuning tuning;

static void receive(struct ninja_link *link, uint8_t tag, const void *payload, size_t size)
{
}

static void lost(struct ninja_link *link, int error)
{
}

int verbs_rig_create(size_t limit)
{
    static const struct ninja_callbacks callbacks = {.receive = receive, .lost = lost};
    struct ninja_config config;
    char why[256];

    ninja_config_default(&config);
    ninja_tuning_default(&tuning);
    tuning.verbose = -1;
    config.lifeline = "lo";
    config.tuning = &tuning;
    config.registration_limit = limit;
    if (ninja_core_create(&core, &config, &callbacks, 1, "test.0", why, sizeof(why)) != 0)
        return -1;
    fake = (struct fake_verbs){.context = NULL};
    fabric = ninja_fabric_add(core, "fast", NULL, &ninja_transport_verbs, "");
    fabric->transport = fake_verbs_open(core);
    fabric->state = NINJA_FABRIC_UP;
    core->active[core->active_count++] = fabric->transport;
    transport = (struct verbs_transport *)fabric->transport;
    transport->registrations.limit = limit; /* whatever may be locked here */
    link_to_peer = ninja_link_find(core, 100, true);
    path = &link_to_peer->paths[fabric->slot];
    path->peer_up = path->wanted = true;
    return 0;
}

void verbs_rig_destroy(void)
{
    REQUIRE(path->state == NINJA_PATH_CLOSED);
    fake_verbs_reset();
    while (core->links != NULL)
        ninja_link_destroy(core->links);
    ninja_core_destroy(core);
}

void verbs_rig_open_path(void)
{
    const struct verbs_address address = {.magic = VERBS_ADDRESS_MAGIC,
                                          .queue_pair = 9,
                                          .ethernet =
                                              transport->port.link_layer == IBV_LINK_LAYER_ETHERNET,
                                          .instance = VERBS_RIG_PEER_INSTANCE};
    struct ninja_path_message accept = path->offer;

    ninja_path_handle(path, NINJA_PATH_START);
    accept.address_size = sizeof(address);
    REQUIRE(ninja_path_keep_offer(path, &accept, &address));
    ninja_path_handle(path, NINJA_PATH_ACCEPT);
    ninja_path_handle(path, NINJA_PATH_ECHO);
    REQUIRE(path->state == NINJA_PATH_OPEN);
    fake_verbs_complete(UINT32_MAX, IBV_WC_SUCCESS);
    (void)ninja_core_pass(core);
}
