/* Devices: what is read from sysfs for soft-RoCE, InfiniBand and RoCE devices in all their states.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "devices.h"
#include "test-tree.h"

static int setup(void **state)
{
    struct tree *tree = calloc(1, sizeof(*tree));

    *state = tree;
    return tree_create(tree);
}

static int teardown(void **state)
{
    int rc = tree_destroy(*state);

    free(*state);
    return rc;
}

static const struct {
    const char *state, *gid, *link_layer, *lid;
    int usable;
} ports[] = {
    {"4: ACTIVE", "fe80:0000:0000:0000:5054:00ff:feca:0011", "Ethernet", NULL, 1},
    {"1: DOWN", "fe80:0000:0000:0000:5054:00ff:feca:0011", "Ethernet", NULL, 0},
    {"4: ACTIVE", "0000:0000:0000:0000:0000:0000:0000:0000", "Ethernet", NULL, 0},
    {"4: ACTIVE", "fe80:0000:0000:0000:0000:0000:0000:0000", "InfiniBand", "0x1", 0},
    {"4: ACTIVE", "fe80:0000:0000:0000:0002:c903:0000:0001", "InfiniBand", "0x0", 0},
    {"4: ACTIVE", "fe80:0000:0000:0000:0002:c903:0000:0001", "InfiniBand", "0x12", 1},
    {"2: INIT", "fe80:0000:0000:0000:0002:c903:0000:0001", "InfiniBand", "0x12", 0},
    {"4: ACTIVE", NULL, "Ethernet", NULL, 0},
};

static void test_usable_ports(void **state)
{
    struct tree *tree = *state;

    for (size_t i = 0; i < sizeof(ports) / sizeof(*ports); i++) {
        struct rdma_device_list list;

        tree_put(tree, "sys/class/infiniband/mlx5_0/ports/1/state", ports[i].state);
        tree_put(tree, "sys/class/infiniband/mlx5_0/ports/1/link_layer", ports[i].link_layer);
        if (ports[i].lid)
            tree_put(tree, "sys/class/infiniband/mlx5_0/ports/1/lid", ports[i].lid);
        if (ports[i].gid)
            tree_put(tree, "sys/class/infiniband/mlx5_0/ports/1/gids/0", ports[i].gid);
        else
            unlink(tree_path(tree, "sys/class/infiniband/mlx5_0/ports/1/gids/0"));
        assert_int_equal(devices_scan(&tree->roots, &list), 0);
        assert_int_equal(list.count, 1);
        if (list.devices[0].usable != ports[i].usable)
            fail_msg("case %zu", i);
        assert_string_equal(list.devices[0].port_state, ports[i].state + 3);
    }
}

static void test_soft_roce_is_known_by_its_network_device(void **state)
{
    struct tree *tree = *state;
    struct rdma_device_list list;

    tree_put(tree, "sys/class/infiniband/rxe0/parent", "hca0\n");
    tree_put(tree, "sys/class/net/hca0/address", "52:54:00:ca:00:11\n");
    tree_link(tree, "sys/class/net/hca0/device",
              "sys/devices/pci0000:00/0000:00:02.4/0000:05:00.0/virtio3");
    tree_put(tree, "sys/class/infiniband_verbs/uverbs1/ibdev", "mlx5_0\n");
    tree_put(tree, "sys/class/infiniband_verbs/uverbs2/ibdev", "rxe0\n");
    assert_int_equal(devices_scan(&tree->roots, &list), 0);
    assert_int_equal(list.count, 1);
    assert_string_equal(list.devices[0].netdev, "hca0");
    assert_string_equal(list.devices[0].mac, "52:54:00:ca:00:11");
    assert_string_equal(list.devices[0].pci, "0000:05:00.0");
    assert_string_equal(list.devices[0].uverbs, "uverbs2");
    assert_ptr_equal(devices_find(&list, "rxe0"), &list.devices[0]);
    assert_null(devices_find(&list, "rxe1"));
}

static void test_second_port_counts_if_the_first_is_down(void **state)
{
    struct tree *tree = *state;
    struct rdma_device_list list;

    tree_link(tree, "sys/class/infiniband/mlx4_0/device", "sys/devices/pci0000:00/0000:81:00.1");
    tree_put(tree, "sys/class/infiniband/mlx4_0/ports/1/state", "1: DOWN\n");
    tree_put(tree, "sys/class/infiniband/mlx4_0/ports/2/state", "4: ACTIVE\n");
    tree_put(tree, "sys/class/infiniband/mlx4_0/ports/2/link_layer", "InfiniBand\n");
    tree_put(tree, "sys/class/infiniband/mlx4_0/ports/2/lid", "0x7\n");
    tree_put(tree, "sys/class/infiniband/mlx4_0/ports/2/gids/0",
             "fe80:0000:0000:0000:0002:c903:0000:0001\n");
    assert_int_equal(devices_scan(&tree->roots, &list), 0);
    assert_int_equal(list.devices[0].port, 2);
    assert_true(list.devices[0].usable);
    assert_string_equal(list.devices[0].pci, "0000:81:00.1");
}

static void test_ipoib_that_is_up(void **state)
{
    struct tree *tree = *state;
    struct rdma_device device = {.name = "mlx4_0", .pci = "0000:81:00.1"},
                       other = {.pci = "0000:82:00.0"};
    char netdev[32];

    tree_link(tree, "sys/class/net/ib0/device", "sys/devices/pci0000:00/0000:81:00.1");
    tree_put(tree, "sys/class/net/ib0/type", "32\n");
    tree_put(tree, "sys/class/net/ib0/flags", "0x1002\n");
    assert_false(devices_ipoib_up(&tree->roots, &device, netdev, sizeof(netdev)));
    tree_put(tree, "sys/class/net/ib0/flags", "0x1003\n");
    assert_true(devices_ipoib_up(&tree->roots, &device, netdev, sizeof(netdev)));
    assert_string_equal(netdev, "ib0");
    assert_false(devices_ipoib_up(&tree->roots, &other, netdev, sizeof(netdev)));
    tree_put(tree, "sys/class/net/ib0/type", "1\n");
    assert_false(devices_ipoib_up(&tree->roots, &device, netdev, sizeof(netdev)));
}

static void test_empty_machine(void **state)
{
    struct tree *tree = *state;
    struct rdma_device_list list = {.count = 9};

    assert_int_equal(devices_scan(&tree->roots, &list), 0);
    assert_int_equal(list.count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_usable_ports),
        TEST(test_soft_roce_is_known_by_its_network_device),
        TEST(test_second_port_counts_if_the_first_is_down),
        TEST(test_ipoib_that_is_up),
        TEST(test_empty_machine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
