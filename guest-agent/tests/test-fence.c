/* The fence and the proof: nodes are withheld and put back exactly, and every kind of holder is
 * found. SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "fence.h"
#include "holders.h"
#include "test-tree.h"

#define NODE     "dev/infiniband/uverbs0"
#define WITHHELD "dev/infiniband/.symvirt-withheld/uverbs0"

static int setup(void **state)
{
    struct tree *tree = calloc(1, sizeof(*tree));

    *state = tree;
    if (tree_create(tree))
        return -1;
    tree_put(tree, NODE, "x");
    tree_put(tree, "sys/class/infiniband_verbs/uverbs0/dev", "231:192\n");
    chmod(tree_path(tree, NODE), 0624);
    return 0;
}

static int teardown(void **state)
{
    int rc = tree_destroy(*state);

    free(*state);
    return rc;
}

static struct stat stat_of(const struct tree *tree, const char *name)
{
    struct stat info;

    if (stat(tree_path(tree, name), &info))
        memset(&info, 0, sizeof(info));
    return info;
}

static void test_withheld_and_put_back_exactly(void **state)
{
    struct tree *tree = *state;
    struct stat before = stat_of(tree, NODE), after;

    assert_false(fence_is_up(&tree->roots, "uverbs0"));
    assert_int_equal(fence_withhold(&tree->roots, "uverbs0"), 0);
    assert_int_equal(fence_withhold(&tree->roots, "uverbs0"), 0);
    assert_true(fence_is_up(&tree->roots, "uverbs0"));
    assert_int_equal(stat_of(tree, NODE).st_ino, 0);
    assert_int_equal(stat_of(tree, "dev/infiniband/.symvirt-withheld").st_mode & 0777, 0700);
    assert_int_equal(fence_restore(&tree->roots, "uverbs0"), 0);
    assert_int_equal(fence_restore(&tree->roots, "uverbs0"), 0);
    after = stat_of(tree, NODE);
    assert_int_equal(after.st_ino, before.st_ino);
    assert_int_equal(after.st_mode, before.st_mode);
}

static void test_node_that_is_not_there(void **state)
{
    struct tree *tree = *state;

    assert_int_equal(fence_withhold(&tree->roots, "uverbs9"), -ENOENT);
    assert_false(fence_is_up(&tree->roots, "uverbs9"));
}

static void test_node_made_anew_wins(void **state)
{
    struct tree *tree = *state;
    ino_t anew;

    fence_withhold(&tree->roots, "uverbs0");
    tree_put(tree, NODE, "new");
    anew = stat_of(tree, NODE).st_ino;
    assert_int_equal(fence_restore(&tree->roots, "uverbs0"), 0);
    assert_int_equal(stat_of(tree, NODE).st_ino, anew);
    assert_int_equal(stat_of(tree, WITHHELD).st_ino, 0);
}

static void test_node_of_a_vanished_device_is_removed(void **state)
{
    struct tree *tree = *state;

    fence_withhold(&tree->roots, "uverbs0");
    fence_forget_vanished(&tree->roots);
    assert_int_not_equal(stat_of(tree, WITHHELD).st_ino, 0);
    unlink(tree_path(tree, "sys/class/infiniband_verbs/uverbs0/dev"));
    rmdir(tree_path(tree, "sys/class/infiniband_verbs/uverbs0"));
    fence_forget_vanished(&tree->roots);
    assert_int_equal(stat_of(tree, WITHHELD).st_ino, 0);
    assert_int_equal(stat_of(tree, NODE).st_ino, 0);
}

static void test_device_node_with_another_number_is_not_put_back(void **state)
{
    struct tree *tree = *state;

    unlink(tree_path(tree, NODE));
    if (mknod(tree_path(tree, NODE), S_IFCHR | 0600, makedev(231, 193))) {
        print_message("skipped: only root makes device nodes\n");
        skip();
    }
    fence_withhold(&tree->roots, "uverbs0");
    assert_int_equal(fence_restore(&tree->roots, "uverbs0"), 0); /* sysfs says 231:192 */
    assert_int_equal(stat_of(tree, NODE).st_ino, 0);
    assert_int_equal(stat_of(tree, WITHHELD).st_ino, 0);
}

static int keep_first(void *ctx, const char *uverbs)
{
    return !strcmp(uverbs, "uverbs0");
}

static void test_all_but_those_to_keep_are_put_back(void **state)
{
    struct tree *tree = *state;

    tree_put(tree, "dev/infiniband/uverbs1", "y");
    tree_put(tree, "sys/class/infiniband_verbs/uverbs1/dev", "231:193\n");
    fence_withhold(&tree->roots, "uverbs0");
    fence_withhold(&tree->roots, "uverbs1");
    fence_restore_others(&tree->roots, keep_first, NULL);
    assert_true(fence_is_up(&tree->roots, "uverbs0"));
    assert_false(fence_is_up(&tree->roots, "uverbs1"));
    assert_int_not_equal(stat_of(tree, "dev/infiniband/uverbs1").st_ino, 0);
}

/* --- Holders -------------------------------------------------------------------------------------
 */

static const struct rdma_device device = {.name = "rxe0", .uverbs = "uverbs0"};

/* A child that holds the node in one way until it is killed. */
static pid_t start_holder(const struct tree *tree, int mapped)
{
    int ready[2];
    char byte;
    pid_t pid;

    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (!pid) {
        int fd = open(tree_path(tree, NODE), O_RDWR);

        if (mapped && mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED)
            close(fd);
        if (write(ready[1], "r", 1) == 1)
            pause();
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void find(const struct tree *tree, struct holder_list *list)
{
    char path[512];

    fence_node_path(&tree->roots, "uverbs0", path, sizeof(path));
    assert_int_equal(holders_find(&tree->roots, &device, path, list), 0);
}

static void check_holder(struct tree *tree, int mapped, const char *how)
{
    pid_t pid = start_holder(tree, mapped);
    struct holder_list list;

    for (int fenced = 0; fenced < 2; fenced++) {
        if (fenced)
            fence_withhold(&tree->roots, "uverbs0");
        find(tree, &list);
        assert_int_equal(list.count, 1);
        assert_int_equal(list.holders[0].pid, pid);
        assert_string_equal(list.holders[0].comm, "test-fence");
        assert_string_equal(list.holders[0].how, how);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    find(tree, &list);
    assert_int_equal(list.count, 0);
}

static void test_open_descriptor_is_found(void **state)
{
    check_holder(*state, 0, "open device node");
}

static void test_mapping_without_a_descriptor_is_found(void **state)
{
    check_holder(*state, 1, "mapped device memory");
}

static void test_ipoib_is_a_holder(void **state)
{
    static const struct rdma_device infiniband = {
        .name = "mlx4_0", .uverbs = "uverbs0", .pci = "0000:81:00.1"};
    struct tree *tree = *state;
    struct holder_list list;

    tree_link(tree, "sys/class/net/ib0/device", "sys/devices/pci0000:00/0000:81:00.1");
    tree_put(tree, "sys/class/net/ib0/type", "32\n");
    tree_put(tree, "sys/class/net/ib0/flags", "0x1003\n");
    assert_int_equal(holders_find(&tree->roots, &infiniband, tree_path(tree, NODE), &list), 0);
    assert_int_equal(list.count, 1);
    assert_string_equal(list.holders[0].comm, "ib0");
}

static void test_names_are_made_harmless_and_listed_once(void **state)
{
    struct holder_list list = {.count = 0};

    holders_add(&list, 7, "a\"b\\c\nd \xff", "x");
    holders_add(&list, 7, "again", "y");
    assert_int_equal(list.count, 1);
    assert_string_equal(list.holders[0].comm, "a?b?c?d??");
    for (int pid = 100; pid < 200; pid++)
        holders_add(&list, pid, "many", "x");
    assert_int_equal(list.count, 101);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_withheld_and_put_back_exactly),
        TEST(test_node_that_is_not_there),
        TEST(test_node_made_anew_wins),
        TEST(test_node_of_a_vanished_device_is_removed),
        TEST(test_device_node_with_another_number_is_not_put_back),
        TEST(test_all_but_those_to_keep_are_put_back),
        TEST(test_open_descriptor_is_found),
        TEST(test_mapping_without_a_descriptor_is_found),
        TEST(test_ipoib_is_a_holder),
        TEST(test_names_are_made_harmless_and_listed_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
