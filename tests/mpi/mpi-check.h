/* What the MPI programs in this folder share: options, patterns, and how a check fails.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef MPI_CHECK_H
#define MPI_CHECK_H

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes behind each receive buffer that nobody may write to. */
#define CHECK_GUARD 64

/* This process; set by check_start(). */
struct check {
    const char *program;
    int rank, ranks;
    uint64_t seed; /* the same in all ranks */
    double seconds;
    int level;  /* the thread level asked for */
    bool child; /* started by MPI_Comm_spawn() */
};
extern struct check check;

/*
 * Starts MPI at the thread level that --level says, else at 'level', and reads --seconds S (default
 * 0: one round) and --seed N. Ends the process with 2 on wrong options, and skips
 * (77) if Open MPI does not offer the level.
 */
void check_start(int argc, char **argv, int level);

/* True until --seconds are over, at least once; all ranks of MPI_COMM_WORLD call it and agree. */
bool check_continue(void);

/* Rank 0 says how much was verified, in all ranks; ends MPI. Returns the exit code of the program.
 */
int check_finish(void);

/* Prints why, and ends the job. Any thread. */
void check_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4), noreturn));
#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            check_fail(__FILE__, __LINE__, __VA_ARGS__);                                           \
    } while (0)

/* The next number of the pseudo-random sequence 'state'. Same state, same numbers, on all ranks. */
uint64_t check_draw(uint64_t *state);
/* A message size: often near the limits where Open MPI changes its protocol, at most 'max' bytes.
 */
size_t check_draw_size(uint64_t *state, size_t max);
/* The start of a sequence that only 'a' and 'b' name, under the seed of this run. */
uint64_t check_sequence(uint64_t a, uint64_t b);

/* Memory of 'size' bytes and a guard, all of it poisoned; never NULL; free() it. */
void *check_buffer(size_t size);
/* Poisons a buffer of check_buffer() again. */
void check_poison(void *buffer, size_t size);
/* Writes the pattern of 'key' to all 'size' bytes. */
void check_fill(void *buffer, size_t size, uint64_t key);
/* Verifies that 'size' bytes are the pattern of 'key'; 'what' names them in the message. */
void check_verify(const void *buffer, size_t size, uint64_t key, const char *what);
/* Verifies that nothing was written from 'from' on to the end of a buffer of 'size' bytes with
 * guard. */
void check_untouched(const void *buffer, size_t from, size_t size, const char *what);
/* Verifies that a receive of 'size' bytes came from 'source' with 'tag'. */
void check_status(const MPI_Status *status, int source, int tag, size_t size, const char *what);

/* Counts verified bytes. Any thread. */
void check_count(size_t size);

/* The number of elements in an array. */
#define CHECK_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#endif
