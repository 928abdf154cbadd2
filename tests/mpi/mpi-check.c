/* What the MPI programs in this folder share: options, patterns, and how a check fails.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "mpi-check.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POISON 0xa5

struct check check;
static atomic_ullong verified;
static unsigned long rounds;
static double start;
static MPI_Comm agreement = MPI_COMM_NULL;

/* --- Start and end ---------------------------------------------------------------------------- */

static const struct level {
    const char *name;
    int level;
} levels[] = {
    {"single", MPI_THREAD_SINGLE},
    {"funneled", MPI_THREAD_FUNNELED},
    {"serialized", MPI_THREAD_SERIALIZED},
    {"multiple", MPI_THREAD_MULTIPLE},
};

static void level_read(const char *text)
{
    size_t i;

    for (i = 0; i < CHECK_LENGTH(levels); i++)
        if (strcmp(levels[i].name, text) == 0) {
            check.level = levels[i].level;
            return;
        }
    fprintf(stderr, "%s: --level '%s': single, funneled, serialized or multiple\n", check.program,
            text);
    exit(2);
}

void check_start(int argc, char **argv, int level)
{
    static const struct option table[] = {
        {"seconds", required_argument, NULL, 't'},
        {"seed", required_argument, NULL, 's'},
        {"level", required_argument, NULL, 'l'},
        {"child", no_argument, NULL, 'c'},
        {NULL, 0, NULL, 0},
    };
    int option, provided;

    check.program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    check.level = level;
    check.seed = 1;
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (option == 't')
            check.seconds = atof(optarg);
        else if (option == 's')
            check.seed = strtoull(optarg, NULL, 0);
        else if (option == 'l')
            level_read(optarg);
        else if (option == 'c')
            check.child = true;
        else
            exit(2);
    }
    MPI_Init_thread(&argc, &argv, check.level, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &check.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &check.ranks);
    start = MPI_Wtime();
    if (provided >= check.level)
        return;
    if (check.rank == 0)
        printf("SKIP: Open MPI offers only thread level %d, not %d\n", provided, check.level);
    MPI_Finalize();
    exit(77);
}

bool check_continue(void)
{
    int more = 1;

    if (rounds++ == 0)
        return true;
    /* Not before: some programs look at the very first contact between ranks. */
    if (agreement == MPI_COMM_NULL)
        MPI_Comm_dup(MPI_COMM_WORLD, &agreement);
    more = MPI_Wtime() - start < check.seconds;
    MPI_Bcast(&more, 1, MPI_INT, 0, agreement);
    rounds -= !more;
    return more;
}

int check_finish(void)
{
    unsigned long long mine = atomic_load(&verified), all = 0;

    if (agreement != MPI_COMM_NULL)
        MPI_Comm_free(&agreement);
    MPI_Reduce(&mine, &all, 1, MPI_UNSIGNED_LONG_LONG, MPI_SUM, 0, MPI_COMM_WORLD);
    if (check.rank == 0 && !check.child)
        printf("%s: %d ranks, %lu rounds, %llu bytes verified in %.1f s, seed %llu\n",
               check.program, check.ranks, rounds, all, MPI_Wtime() - start,
               (unsigned long long)check.seed);
    CHECK(check.rank != 0 || all > 0, "nothing was verified");
    MPI_Finalize();
    return 0;
}

void check_fail(const char *file, int line, const char *format, ...)
{
    const char *name = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
    char text[400];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s: rank %d: WRONG: %s (%s:%d, round %lu, seed %llu)\n", check.program,
            check.rank, text, name, line, rounds, (unsigned long long)check.seed);
    MPI_Abort(MPI_COMM_WORLD, 1);
    abort();
}

/* --- What is random --------------------------------------------------------------------------- */

uint64_t check_draw(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

uint64_t check_sequence(uint64_t a, uint64_t b)
{
    uint64_t state = (check.seed + 1) * 0x9e3779b97f4a7c15u ^ (a + 1) * 0xc2b2ae3d27d4eb4fu ^
                     (b + 1) * 0x165667b19e3779f9u;

    state |= state == 0;
    check_draw(&state);
    check_draw(&state);
    return state;
}

size_t check_draw_size(uint64_t *state, size_t max)
{
    static const size_t edges[] = {0,     1,     8,      100,    4096,    32768,
                                   65408, 65536, 131072, 262144, 1048576, 8388608};
    uint64_t how = check_draw(state);
    size_t size = edges[(how >> 8) % CHECK_LENGTH(edges)], spread = (how >> 16) % 257;

    if (how % 4 == 0) /* anywhere, all magnitudes alike */
        size = (how >> 20) % ((size_t)1 << (how >> 40) % 23);
    else if (how % 4 > 1) /* close to where something changes */
        size = size > 128 ? size + spread - 128 : size;
    return size < max ? size : max;
}

/* --- Patterns --------------------------------------------------------------------------------- */

static inline uint64_t pattern_word(uint64_t key, uint64_t i)
{
    uint64_t word = (key + i) * 0x9e3779b97f4a7c15u;

    return word ^ word >> 29;
}

void *check_buffer(size_t size)
{
    void *buffer = malloc(size + CHECK_GUARD);

    CHECK(buffer != NULL, "no memory for %zu bytes", size);
    check_poison(buffer, size);
    return buffer;
}

void check_poison(void *buffer, size_t size)
{
    memset(buffer, POISON, size + CHECK_GUARD);
}

void check_fill(void *buffer, size_t size, uint64_t key)
{
    unsigned char *at = buffer;
    uint64_t i, word;

    for (i = 0; i < size / 8; i++) {
        word = pattern_word(key, i);
        memcpy(at + i * 8, &word, 8);
    }
    word = pattern_word(key, i);
    memcpy(at + i * 8, &word, size % 8);
}

void check_verify(const void *buffer, size_t size, uint64_t key, const char *what)
{
    const unsigned char *at = buffer;
    uint64_t i, word, is;

    for (i = 0; i < size / 8; i++) {
        word = pattern_word(key, i);
        memcpy(&is, at + i * 8, 8);
        CHECK(is == word, "%s: bytes %llu of %zu: %016llx, not %016llx", what,
              (unsigned long long)i * 8, size, (unsigned long long)is, (unsigned long long)word);
    }
    word = pattern_word(key, i);
    CHECK(memcmp(at + i * 8, &word, size % 8) == 0, "%s: the last bytes of %zu", what, size);
    check_count(size);
}

void check_untouched(const void *buffer, size_t from, size_t size, const char *what)
{
    const unsigned char *at = buffer;
    size_t i;

    for (i = from; i < size + CHECK_GUARD; i++)
        CHECK(at[i] == POISON, "%s: byte %zu was written to, of a buffer of %zu", what, i, size);
}

void check_status(const MPI_Status *status, int source, int tag, size_t size, const char *what)
{
    MPI_Count count;

    MPI_Get_elements_x(status, MPI_BYTE, &count);
    CHECK(status->MPI_SOURCE == source && status->MPI_TAG == tag && (size_t)count == size,
          "%s: status says %lld bytes from %d with tag %d, not %zu from %d with tag %d", what,
          (long long)count, status->MPI_SOURCE, status->MPI_TAG, size, source, tag);
}

void check_count(size_t size)
{
    atomic_fetch_add_explicit(&verified, size, memory_order_relaxed);
}
