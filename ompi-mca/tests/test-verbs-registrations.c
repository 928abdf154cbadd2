/*
 * Unit tests of the verbs transport's registrations, over a device that is not there: which are
 * kept, found again, merged and given up.
 *
 * munmap() is wrapped as Open MPI's hooks do it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "fuzz/fake-verbs.h"
#include "released.h"

#define KB 1024U

int __real_munmap(void *start, size_t length);
int __wrap_munmap(void *start, size_t length);

static bool hooks_work;

int __wrap_munmap(void *start, size_t length)
{
    if (hooks_work)
        ninja_released_note(start, length);
    return __real_munmap(start, length);
}

static struct ninja_tuning tuning = {.verbose = 0};
static struct ninja_core core;
static struct verbs_transport *transport;
static unsigned buffers; /* the transport's own region */
static unsigned char *memory;

static void open_transport(size_t limit)
{
    memset(&core, 0, sizeof(core));
    core.config.tuning = &tuning;
    core.config.registration_limit = limit;
    core.rank_name = "test.0";
    transport = (struct verbs_transport *)fake_verbs_open(&core);
    core.active[core.active_count++] = &transport->base;
    transport->registrations.limit = limit; /* whatever may be locked here */
    buffers = fake.regions;
}

static int setup(void **state)
{
    fake = (struct fake_verbs){.regions = 0};
    hooks_work = true;
    memory = mmap(NULL, 1024 * KB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    open_transport(512 * KB);
    ninja_core_forget_released(&core);
    return memory == MAP_FAILED ? -1 : 0;
}

static int teardown(void **state)
{
    transport->base.ops->close(&transport->base);
    assert_int_equal(fake.regions, 0);
    __real_munmap(memory, 1024 * KB);
    return 0;
}

/* Those that exist now, of the application's memory. */
static unsigned regions(void)
{
    return fake.regions - buffers;
}

/* A message to or from `length` bytes at `offset`; returns the key that it used. */
static uint32_t message(size_t offset, size_t length, enum verbs_use use)
{
    struct verbs_registration *registration =
        verbs_register(transport, memory + offset, length, use);
    uint32_t key;

    assert_non_null(registration);
    key = registration->region->rkey;
    assert_true(fake_verbs_covers((uintptr_t)memory + offset, length, key,
                                  use == VERBS_TO_BE_READ ? IBV_ACCESS_REMOTE_READ
                                                          : IBV_ACCESS_LOCAL_WRITE));
    verbs_unregister(registration);
    return key;
}

static void the_next_message_finds_it(void **state)
{
    uint32_t key = message(0, 64 * KB, VERBS_TO_BE_READ);

    assert_int_equal(message(0, 64 * KB, VERBS_TO_BE_READ), key);
    assert_int_equal(message(4 * KB, 8 * KB, VERBS_TO_BE_WRITTEN), key);
    assert_int_equal(regions(), 1);
}

static void several_lie_beside_each_other(void **state)
{
    uint32_t keys[4];

    for (unsigned i = 0; i < 4; i++)
        keys[i] = message((3 - i) * 64 * KB, 64 * KB, VERBS_TO_BE_READ);
    assert_int_equal(regions(), 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(message((3 - i) * 64 * KB, 64 * KB, VERBS_TO_BE_READ), keys[i]);
}

static void overlapping_ones_become_one(void **state)
{
    uint32_t key;

    (void)message(0, 64 * KB, VERBS_TO_BE_READ);
    (void)message(128 * KB, 64 * KB, VERBS_TO_BE_READ);
    key = message(32 * KB, 128 * KB, VERBS_TO_BE_READ);
    assert_int_equal(regions(), 1);
    assert_int_equal(message(0, 192 * KB, VERBS_TO_BE_READ), key);
}

static void one_in_use_ends_with_its_message(void **state)
{
    struct verbs_registration *used = verbs_register(transport, memory, 64 * KB, VERBS_TO_BE_READ);
    uint32_t key = used->region->rkey;

    (void)message(32 * KB, 64 * KB, VERBS_TO_BE_READ);
    assert_int_equal(regions(), 2);
    assert_true(fake_verbs_covers((uintptr_t)memory, 64 * KB, key, IBV_ACCESS_REMOTE_READ));
    verbs_unregister(used);
    assert_int_equal(regions(), 1);
}

static void the_oldest_makes_room(void **state)
{
    uint32_t first = message(0, 200 * KB, VERBS_TO_BE_READ);
    uint32_t second = message(200 * KB, 200 * KB, VERBS_TO_BE_READ);

    assert_int_equal(message(0, 200 * KB, VERBS_TO_BE_READ), first);
    (void)message(400 * KB, 200 * KB, VERBS_TO_BE_READ);
    assert_int_equal(regions(), 2);
    assert_int_equal(message(0, 200 * KB, VERBS_TO_BE_READ), first);
    assert_int_not_equal(message(200 * KB, 200 * KB, VERBS_TO_BE_READ), second);
    assert_int_equal(regions(), 2);
}

static void what_is_larger_than_the_limit_is_not_kept(void **state)
{
    uint32_t key = message(0, 64 * KB, VERBS_TO_BE_READ);

    (void)message(0, 600 * KB, VERBS_TO_BE_READ);
    assert_int_equal(regions(), 0);
    assert_int_not_equal(message(0, 64 * KB, VERBS_TO_BE_READ), key);
}

static void so_many_are_kept(void **state)
{
    for (unsigned i = 0; i < VERBS_KEPT_MAX + 10; i++)
        (void)message(i * 1000, 1000, VERBS_TO_BE_READ);
    assert_int_equal(regions(), VERBS_KEPT_MAX);
}

static void unmapped_memory_is_given_up(void **state)
{
    uint32_t keys[3];

    for (unsigned i = 0; i < 3; i++)
        keys[i] = message(i * 64 * KB, 64 * KB, VERBS_TO_BE_READ);
    assert_int_equal(munmap(memory + 64 * KB, 4 * KB), 0);
    assert_ptr_equal(mmap(memory + 64 * KB, 4 * KB, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                     memory + 64 * KB);
    assert_int_equal(message(0, 64 * KB, VERBS_TO_BE_READ), keys[0]);
    assert_int_equal(regions(), 2);
    assert_int_not_equal(message(64 * KB, 64 * KB, VERBS_TO_BE_READ), keys[1]);
    assert_int_equal(message(128 * KB, 64 * KB, VERBS_TO_BE_READ), keys[2]);
}

static void memory_unmapped_in_use_is_not_found_again(void **state)
{
    struct verbs_registration *used = verbs_register(transport, memory, 64 * KB, VERBS_TO_BE_READ);
    uint32_t key = used->region->rkey;

    ninja_released_note(memory, 1);
    assert_int_not_equal(message(0, 64 * KB, VERBS_TO_BE_READ), key);
    verbs_unregister(used);
    assert_int_equal(regions(), 1);
}

static void more_notes_than_there_is_room_for_mean_everything(void **state)
{
    uint32_t key = message(0, 64 * KB, VERBS_TO_BE_READ);

    for (unsigned i = 0; i < 1000; i++)
        ninja_released_note(memory + 512 * KB + (i % 100) * 4 * KB, 4 * KB);
    assert_int_not_equal(message(0, 64 * KB, VERBS_TO_BE_READ), key);
}

static void a_very_large_range_means_everything(void **state)
{
    uint32_t key = message(0, 64 * KB, VERBS_TO_BE_READ);

    ninja_released_note((void *)4096, SIZE_MAX / 2);
    assert_int_not_equal(message(0, 64 * KB, VERBS_TO_BE_READ), key);
}

static void a_fork_means_everything(void **state)
{
    uint32_t key = message(0, 64 * KB, VERBS_TO_BE_READ);
    pid_t child = fork();

    if (child == 0)
        _exit(0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_not_equal(message(0, 64 * KB, VERBS_TO_BE_READ), key);
}

static void a_pass_gives_up_what_was_unmapped(void **state)
{
    (void)message(0, 64 * KB, VERBS_TO_BE_READ);
    ninja_released_note(memory, 64 * KB);
    core.control_progress = true; /* whose pass looks for everything */
    (void)transport->base.ops->progress(&transport->base);
    assert_int_equal(regions(), 0);
}

static void nothing_is_kept_once_hooks_fail(void **state)
{
    (void)message(0, 64 * KB, VERBS_TO_BE_READ);
    hooks_work = false;
    (void)message(64 * KB, 64 * KB, VERBS_TO_BE_READ);
    assert_int_equal(regions(), 0);
    hooks_work = true;
    (void)message(64 * KB, 64 * KB, VERBS_TO_BE_READ);
    assert_int_equal(regions(), 0);
}

static void without_a_limit_nothing_is_kept(void **state)
{
    transport->registrations.limit = 0;
    (void)message(0, 64 * KB, VERBS_TO_BE_READ);
    (void)message(0, 64 * KB, VERBS_TO_BE_WRITTEN);
    assert_int_equal(regions(), 0);
}

static void memory_that_cannot_be_written_can_be_read(void **state)
{
    struct verbs_registration *registration;

    fake.refuse_region = true; /* the attempt for both */
    registration = verbs_register(transport, memory, 64 * KB, VERBS_TO_BE_READ);
    assert_non_null(registration);
    assert_false(fake_verbs_covers((uintptr_t)memory, 64 * KB, registration->region->rkey,
                                   IBV_ACCESS_LOCAL_WRITE));
    verbs_unregister(registration);
    /* It does not serve what is to be written. */
    (void)message(0, 64 * KB, VERBS_TO_BE_WRITTEN);
    assert_int_equal(regions(), 1);
}

static void kept_ones_make_way_when_memory_may_not_be_locked(void **state)
{
    (void)message(0, 64 * KB, VERBS_TO_BE_READ);
    (void)message(64 * KB, 64 * KB, VERBS_TO_BE_READ);
    fake.refuse_region = true;
    (void)message(512 * KB, 64 * KB, VERBS_TO_BE_WRITTEN);
    assert_int_equal(regions(), 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_next_message_finds_it),
        TEST(several_lie_beside_each_other),
        TEST(overlapping_ones_become_one),
        TEST(one_in_use_ends_with_its_message),
        TEST(the_oldest_makes_room),
        TEST(what_is_larger_than_the_limit_is_not_kept),
        TEST(so_many_are_kept),
        TEST(unmapped_memory_is_given_up),
        TEST(memory_unmapped_in_use_is_not_found_again),
        TEST(more_notes_than_there_is_room_for_mean_everything),
        TEST(a_very_large_range_means_everything),
        TEST(a_fork_means_everything),
        TEST(a_pass_gives_up_what_was_unmapped),
        TEST(nothing_is_kept_once_hooks_fail),
        TEST(without_a_limit_nothing_is_kept),
        TEST(memory_that_cannot_be_written_can_be_read),
        TEST(kept_ones_make_way_when_memory_may_not_be_locked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
