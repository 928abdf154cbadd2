/*
 * Unit tests of the verbs transport's registrations, over a device that is not there: which are
 * kept, found again, merged and given up.
 * And what the hooks tell of.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <dlfcn.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "fuzz/fake-verbs.h"
#include "released.h"

#define KB 1024U

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
    memory = mmap(NULL, 1024 * KB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    open_transport(512 * KB);
    ninja_core_forget_released(&core);
    return memory == MAP_FAILED ? -1 : 0;
}

static int teardown(void **state)
{
    transport->base.ops->close(&transport->base);
    assert_int_equal(fake.regions, 0);
    munmap(memory, 1024 * KB);
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
    verbs_unregister(transport, registration);
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
    verbs_unregister(transport, used);
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
    verbs_unregister(transport, used);
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
    ninja_released_end();
    (void)message(64 * KB, 64 * KB, VERBS_TO_BE_READ);
    assert_int_equal(regions(), 0);
    assert_int_equal(ninja_released_begin(), 0);
    (void)message(64 * KB, 64 * KB, VERBS_TO_BE_READ);
    assert_int_equal(regions(), 0);
}

/* The same, found by one of many messages from the same place. */
static void nothing_is_found_for_long_once_hooks_fail(void **state)
{
    uint32_t key = message(0, 64 * KB, VERBS_TO_BE_READ);
    unsigned found = 0;

    ninja_released_end();
    while (found < 1000 && message(0, 64 * KB, VERBS_TO_BE_READ) == key)
        found++;
    assert_in_range(found, 0, 100);
    assert_int_equal(ninja_released_begin(), 0);
}

/* Pieces of a long message, over those of one from a place beside it. */
static void pieces_do_not_grow_into_each_other(void **state)
{
    size_t most = 0;

    for (unsigned i = 0; i < 8; i++)
        (void)message(i * 32 * KB, 32 * KB, VERBS_TO_BE_READ);
    for (unsigned i = 0; i < 8; i++) {
        struct verbs_registration *registration =
            verbs_register(transport, memory + i * 32 * KB + 4 * KB, 32 * KB, VERBS_TO_BE_READ);

        assert_non_null(registration);
        if (registration->end - registration->start > most)
            most = registration->end - registration->start;
        verbs_unregister(transport, registration);
    }
    assert_in_range(most, 32 * KB, 3 * 32 * KB);
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
    verbs_unregister(transport, registration);
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

/* It could take seconds. */
static void nothing_is_ended_while_the_device_is_going(void **state)
{
    (void)message(0, 64 * KB, VERBS_TO_BE_READ);
    (void)message(64 * KB, 64 * KB, VERBS_TO_BE_READ);
    transport->lost = true;
    ninja_released_note_all();
    ninja_core_forget_released(&core);
    assert_int_equal(regions(), 2); /* teardown sees that they end with the transport */
    transport->lost = false;        /* it was only its port that was down */
    (void)message(128 * KB, 64 * KB, VERBS_TO_BE_READ);
    assert_int_equal(regions(), 1);
    ninja_released_note_all();
    transport->lost = true;
    ninja_core_forget_released(&core);
    assert_int_equal(regions(), 1);
}

/* --- What hooks tell of ---------------------------------------------------------------------- */

static bool told;

static void compare(void *context, uintptr_t start, uintptr_t end)
{
    uintptr_t at = *(uintptr_t *)context;

    told |= at >= start && at < end;
}

static void ignore(void *context, uintptr_t start, uintptr_t end)
{
}

/* Fails unless `call` has told that the page at `address` goes. */
#define ASSERT_TOLD(address, call)                                                                 \
    do {                                                                                           \
        uintptr_t at_ = (uintptr_t)(address);                                                      \
                                                                                                   \
        ninja_released_take(ignore, NULL);                                                         \
        told = false;                                                                              \
        assert_true(call);                                                                         \
        ninja_released_take(compare, &at_);                                                        \
        assert_true(told);                                                                         \
    } while (0)

static void all_ways_to_lose_a_page_are_told(void **state)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    unsigned char *at, *other;
    int id;

    ASSERT_TOLD(memory, madvise(memory, 4 * KB, MADV_DONTNEED) == 0);
    ASSERT_TOLD(memory, madvise(memory, 4 * KB, MADV_FREE) == 0);
    ASSERT_TOLD(memory, mmap(memory, 4 * KB, PROT_READ, flags | MAP_FIXED, -1, 0) == memory);
    at = mmap(NULL, 64 * KB, PROT_READ | PROT_WRITE, flags, -1, 0);
    ASSERT_TOLD(at, (other = mremap(at, 64 * KB, 16384 * KB, MREMAP_MAYMOVE)) != MAP_FAILED);
    ASSERT_TOLD(other + 64 * KB, mremap(other, 16384 * KB, 64 * KB, 0) == other);
    ASSERT_TOLD(other, munmap(other, 64 * KB) == 0);
    id = shmget(IPC_PRIVATE, 64 * KB, IPC_CREAT | 0600);
    at = shmat(id, NULL, 0);
    assert_int_equal(shmctl(id, IPC_RMID, NULL), 0);
    ASSERT_TOLD(at, shmdt(at) == 0);
}

/* malloc() unmaps what it had mapped, and gives the end of the heap back. */
static void freed_memory_is_told(void **state)
{
#ifdef __SANITIZE_ADDRESS__
    skip(); /* which has a malloc() of its own, that keeps what is freed */
#else
    void *data = malloc(4096 * KB);

    ASSERT_TOLD((char *)data + 64 * KB, (free(data), true));
    mallopt(M_MMAP_THRESHOLD, 64 * 1024 * KB);
    data = malloc(4096 * KB);
    ASSERT_TOLD((char *)data + 64 * KB, (free(data), malloc_trim(0), true));
#endif
}

/* The dynamic linker has its own munmap(). */
static void a_library_that_is_unloaded_means_everything(void **state)
{
    static const char *const libraries[] = {"libanl.so.1", "libBrokenLocale.so.1",
                                            "libnss_hesiod.so.2", "libutil.so.1", NULL};
    void *library = NULL;
    uint32_t key = message(0, 64 * KB, VERBS_TO_BE_READ);

    for (unsigned i = 0; libraries[i] != NULL; i++) {
        library = dlopen(libraries[i], RTLD_NOW | RTLD_NOLOAD);
        if (library != NULL) {
            dlclose(library); /* it is there already, and stays */
            continue;
        }
        library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
        if (library != NULL)
            break;
    }
    if (library == NULL)
        skip();
    assert_int_equal(message(0, 64 * KB, VERBS_TO_BE_READ), key);
    assert_int_equal(dlclose(library), 0);
    assert_int_not_equal(message(0, 64 * KB, VERBS_TO_BE_READ), key);
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
        TEST(nothing_is_found_for_long_once_hooks_fail),
        TEST(pieces_do_not_grow_into_each_other),
        TEST(without_a_limit_nothing_is_kept),
        TEST(memory_that_cannot_be_written_can_be_read),
        TEST(kept_ones_make_way_when_memory_may_not_be_locked),
        TEST(nothing_is_ended_while_the_device_is_going),
        TEST(all_ways_to_lose_a_page_are_told),
        TEST(freed_memory_is_told),
        TEST(a_library_that_is_unloaded_means_everything),
    };

    if (ninja_released_begin() != 0) {
        printf("SKIP: libucm cannot put its hooks in here\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
