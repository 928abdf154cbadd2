/*
 * Tests what is said of RDMA devices, on a sysfs made of plain files.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "../common/verbs-device.h"

static char root[] = "/tmp/test-verbs-device-XXXXXX";
static struct ninja_verbs_device device;
static char why[256];

/* Writes `text` to root/`relative`, making its directories. */
static void put(const char *relative, const char *text)
{
    char path[512];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", root, relative);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
        *slash = '/';
    }
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Two devices: mlx5_0 with two ports, of which the second is ACTIVE, and rxe0. */
static int set_up(void **state)
{
    strcpy(root + strlen(root) - 6, "XXXXXX");
    assert_non_null(mkdtemp(root));
    put("infiniband/mlx5_0/ports/1/state", "1: DOWN\n");
    put("infiniband/mlx5_0/ports/2/state", "4: ACTIVE\n");
    put("infiniband/rxe0/ports/1/state", "4: ACTIVE\n");
    put("infiniband/rxe0/parent", "hca0\n");
    put("infiniband_verbs/abi_version", "6\n");
    put("infiniband_verbs/uverbs0/ibdev", "mlx5_0\n");
    put("infiniband_verbs/uverbs0/dev", "231:192\n");
    put("infiniband_verbs/uverbs1/ibdev", "rxe0\n");
    put("infiniband_verbs/uverbs1/dev", "1:3\n"); /* in truth /dev/null */
    memset(&device, 0, sizeof(device));
    why[0] = '\0';
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf '%s'", root);
    return system(command);
}

static int find(const char *wanted)
{
    return ninja_verbs_device_find(root, wanted, &device, why, sizeof(why));
}

static void test_named_device_is_found(void **state)
{
    assert_int_equal(find("rxe0"), 0);
    assert_string_equal(device.name, "rxe0");
    assert_int_equal(device.port, 1);
    assert_true(device.soft_roce);
    assert_string_equal(device.node, "uverbs1");
}

static void test_active_port_is_preferred(void **state)
{
    assert_int_equal(find("mlx5_0"), 0);
    assert_int_equal(device.port, 2);
    assert_false(device.soft_roce);
}

static void test_empty_name_takes_the_first_active(void **state)
{
    assert_int_equal(find(""), 0);
    assert_string_equal(device.name, "mlx5_0");
    put("infiniband/mlx5_0/ports/2/state", "2: INIT\n");
    assert_int_equal(find(""), 0);
    assert_string_equal(device.name, "rxe0");
    put("infiniband/rxe0/ports/1/state", "1: DOWN\n");
    assert_int_equal(find(""), -ENODEV);
    assert_string_equal(why, "no RDMA device with an ACTIVE port is here");
}

static void test_named_port_must_be_active(void **state)
{
    assert_int_equal(find("mlx5_0:2"), 0);
    assert_int_equal(find("mlx5_0:1"), -ENETDOWN);
    assert_non_null(strstr(why, "port 1 of RDMA device mlx5_0 is DOWN"));
    assert_int_equal(find("mlx5_0:3"), -ENODEV);
    assert_non_null(strstr(why, "no port 3"));
}

static void test_missing_device_is_named(void **state)
{
    assert_int_equal(find("rxe1"), -ENODEV);
    assert_string_equal(why, "no RDMA device rxe1 is here");
}

static void test_names_that_are_none_are_refused(void **state)
{
    static const char *const names[] = {"../rxe0",  ".",       "rxe0:",  "rxe0:0",
                                        "rxe0:256", "rxe0:1x", ":1",     "rxe0:-1",
                                        "a/b",      "rxe0: 1", "rxe0::1"};

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (find(names[i]) != -EINVAL)
            fail_msg("'%s' was taken for a name", names[i]);
}

static void test_withheld_node_is_named(void **state)
{
    char nodes[64], node[96];

    snprintf(nodes, sizeof(nodes), "%s/dev", root);
    snprintf(node, sizeof(node), "dev/uverbs1");
    assert_int_equal(find("rxe0"), 0);
    put("dev/uverbs0", "");
    assert_int_equal(ninja_verbs_device_check_node(nodes, &device, why, sizeof(why)), -ENOENT);
    assert_non_null(strstr(why, "uverbs1"));
    put(node, "");
    assert_int_equal(ninja_verbs_device_check_node(nodes, &device, why, sizeof(why)), 0);
}

static void test_removed_device_is_not_present(void **state)
{
    char path[512];

    assert_int_equal(ninja_verbs_device_find(root, "rxe0", &device, why, sizeof(why)), 0);
    assert_true(ninja_verbs_device_present(root, &device));
    snprintf(path, sizeof(path), "%s/infiniband_verbs/uverbs1/ibdev", root);
    assert_int_equal(unlink(path), 0);
    assert_false(ninja_verbs_device_present(root, &device));
}

static void test_open_files_are_counted(void **state)
{
    unsigned before;
    int fd;

    assert_int_equal(find("rxe0"), 0);
    before = ninja_verbs_device_open_files(&device);
    fd = open("/dev/null", O_RDWR);
    assert_int_equal(ninja_verbs_device_open_files(&device), before + 1);
    close(fd);
    assert_int_equal(ninja_verbs_device_open_files(&device), before);
}

#define CANNOT 99 /* this test may not change the limit like that */

/* What ninja_verbs_memlock_check() says with `limit` bytes; as root or, without its capabilities,
 * as nobody. */
static int memlock_check(rlim_t limit, bool privileged)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        struct rlimit both = {limit, limit};

        if (setrlimit(RLIMIT_MEMLOCK, &both) != 0)
            _exit(CANNOT);
        if (!privileged && geteuid() == 0 &&
            (setgroups(0, NULL) != 0 || setresuid(65534, 65534, 65534) != 0))
            _exit(CANNOT);
        _exit(-ninja_verbs_memlock_check(why, sizeof(why)));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return -WEXITSTATUS(status);
}

static void test_small_memlock_is_refused(void **state)
{
    int rc;

    assert_int_equal(memlock_check(64 << 10, false), -ENOMEM);
    rc = memlock_check(RLIM_INFINITY, false);
    assert_true(rc == 0 || rc == -CANNOT);
    rc = geteuid() == 0 ? memlock_check(64 << 10, true) : -CANNOT;
    assert_true(rc == 0 || rc == -CANNOT);
}

int main(void)
{
#define WITH_FILES(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_FILES(test_named_device_is_found),
        WITH_FILES(test_active_port_is_preferred),
        WITH_FILES(test_empty_name_takes_the_first_active),
        WITH_FILES(test_named_port_must_be_active),
        WITH_FILES(test_missing_device_is_named),
        WITH_FILES(test_names_that_are_none_are_refused),
        WITH_FILES(test_withheld_node_is_named),
        WITH_FILES(test_removed_device_is_not_present),
        WITH_FILES(test_open_files_are_counted),
        WITH_FILES(test_small_memlock_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
