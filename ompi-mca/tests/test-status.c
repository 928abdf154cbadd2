/*
 * The status of a rank with many links: each page fits into a frame, and ninja-rankctl gets all.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "rig.h"

#include <stdio.h>
#include <unistd.h>

#include <jansson.h>
#include <symvirt.h>

#include "status.h"

#define LINKS     400
#define RANKCTL   "../symvirt/ninja-rankctl"
#define FIRST_JOB ((uint64_t)7 << 32)

/* Links as long as they can be told: all fabrics, large numbers. */
static void make_links(struct ninja_core *core)
{
    for (uint64_t peer = 0; peer < LINKS; peer++) {
        struct ninja_link *link = ninja_link_find(core, FIRST_JOB + peer, true);

        memset(&link->counters, 0x5a, sizeof(link->counters));
        link->send_path->since_ms = 0;
    }
}

/* Notes each peer of `links` in `seen`; fails on one that is there already. */
static void note(const json_t *links, bool seen[LINKS])
{
    const json_t *link;
    size_t i;

    json_array_foreach (links, i, link) {
        json_int_t rank = json_integer_value(json_object_get(link, "rank"));

        assert_int_equal(json_integer_value(json_object_get(link, "job")), 7);
        assert_in_range(rank, 0, LINKS - 1);
        assert_false(seen[rank]);
        seen[rank] = true;
    }
}

static void each_page_fits_into_a_frame(void **state)
{
    bool seen[LINKS] = {false};
    unsigned told = 0;

    rig->fabric->state = NINJA_FABRIC_DOWN;
    for (char name[32] = "a-name-of-thirty-one-characters"; name[0] < 'd'; name[0]++)
        (void)ninja_fabric_add(rig->core, name, NULL, &ninja_transport_tcp, "");
    ninja_link_destroy(rig->link);
    make_links(rig->core);
    while (told < LINKS) {
        json_t *page = ninja_status_details(rig->core, told);
        const json_t *links = json_object_get(page, "links");
        size_t size = json_dumpb(page, NULL, 0, JSON_COMPACT);

        assert_in_range(size, 1, SYMVIRT_PAYLOAD_MAX * 3 / 4);
        assert_int_equal(json_integer_value(json_object_get(page, "total")), LINKS);
        assert_in_range(json_array_size(links), 1, SYMVIRT_DETAILS_PAGE);
        note(links, seen);
        told += (unsigned)json_array_size(links);
        json_decref(page);
    }
    assert_int_equal(told, LINKS);
}

static void receive(struct ninja_link *link, uint8_t tag, const void *payload, size_t size)
{
}

static void lost(struct ninja_link *link, int error)
{
}

static void rankctl_gets_all(void **state)
{
    static const struct ninja_callbacks callbacks = {.receive = receive, .lost = lost};
    char directory[] = "/tmp/ninja-test-status.XXXXXX", command[256], why[256] = "";
    bool seen[LINKS] = {false};
    struct ninja_config config;
    struct ninja_core *core;
    const json_t *status;
    json_t *answer;
    FILE *output;

    if (access(RANKCTL, X_OK) != 0)
        skip(); /* not run from the build tree */
    assert_non_null(mkdtemp(directory));
    ninja_config_default(&config);
    config.lifeline = "lo";
    config.control_dir = directory;
    config.agent = NINJA_AGENT_NONE;
    assert_int_equal(ninja_core_create(&core, &config, &callbacks, 1, "1.1", why, sizeof(why)), 0);
    make_links(core);
    assert_int_equal(ninja_core_start(core, why, sizeof(why)), 0);
    snprintf(command, sizeof(command), RANKCTL " --dir %s --json status", directory);
    output = popen(command, "r");
    assert_non_null(output);
    answer = json_loadf(output, 0, NULL);
    assert_int_equal(pclose(output), 0);
    assert_int_equal(json_array_size(answer), 1);
    status = json_object_get(json_object_get(json_array_get(answer, 0), "detail"), "status");
    assert_int_equal(json_array_size(json_object_get(status, "links")), LINKS);
    note(json_object_get(status, "links"), seen);
    json_decref(answer);
    ninja_core_destroy(core);
    (void)rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_page_fits_into_a_frame, rig_setup, rig_teardown),
        cmocka_unit_test(rankctl_gets_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
