/* One-sided communication: put, get and accumulates under fence, post-start-complete-wait and
 * locks. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "mpi-check.h"

#include <stdlib.h>
#include <string.h>

#define SLOT_MAXIMUM ((size_t)256 << 10)

/* A window with one slot for each rank's puts, one for its own data to get, and counters. */
struct window {
    MPI_Win win;
    MPI_Comm comm;
    unsigned char *memory;
    size_t slot; /* bytes */
    uint64_t serial;
    bool dynamic;
    MPI_Aint *bases; /* of a dynamic window */
};

enum { COUNTERS = 32 };

static size_t window_size(const struct window *window)
{
    return COUNTERS * sizeof(int64_t) + ((size_t)check.ranks + 1) * window->slot;
}

static uint64_t key_of(const struct window *window, int from, int to)
{
    return check_sequence(window->serial, (uint64_t)from << 16 | (unsigned)to);
}

/* Where slot 'slot' of rank 'rank' is; the last one is its own. */
static MPI_Aint slot_at(const struct window *window, int rank, int slot)
{
    return window->bases[rank] +
           (MPI_Aint)(COUNTERS * sizeof(int64_t) + (size_t)slot * window->slot);
}

static unsigned char *slot_memory(const struct window *window, int slot)
{
    return window->memory + COUNTERS * sizeof(int64_t) + (size_t)slot * window->slot;
}

static int64_t *counters(const struct window *window)
{
    return (int64_t *)(void *)window->memory;
}

/* Creates the window in the way that 'how' says. */
static void window_open(struct window *window, unsigned how, size_t slot)
{
    size_t size;
    MPI_Aint base = 0;

    window->slot = (slot + 7) / 8 * 8;
    window->bases = calloc((size_t)check.ranks, sizeof *window->bases);
    CHECK(window->bases != NULL, "no memory");
    size = window_size(window);
    window->dynamic = how == 2;
    if (how == 0) {
        MPI_Win_allocate((MPI_Aint)size, 1, MPI_INFO_NULL, window->comm, &window->memory,
                         &window->win);
    } else {
        window->memory = check_buffer(size);
        if (how == 1)
            MPI_Win_create(window->memory, (MPI_Aint)size, 1, MPI_INFO_NULL, window->comm,
                           &window->win);
        else
            MPI_Win_create_dynamic(MPI_INFO_NULL, window->comm, &window->win);
    }
    if (window->dynamic) {
        MPI_Win_attach(window->win, window->memory, (MPI_Aint)size);
        MPI_Get_address(window->memory, &base);
    }
    MPI_Allgather(&base, 1, MPI_AINT, window->bases, 1, MPI_AINT, window->comm);
}

static void window_close(struct window *window, bool allocated)
{
    if (window->dynamic)
        MPI_Win_detach(window->win, window->memory);
    MPI_Win_free(&window->win);
    if (!allocated)
        free(window->memory);
    free(window->bases);
}

/* Prepares this rank's memory; nobody accesses it now. */
static void window_fill(struct window *window)
{
    window->serial++;
    memset(window->memory, 0, window_size(window));
    check_fill(slot_memory(window, check.ranks), window->slot,
               key_of(window, check.rank, check.rank));
}

/* What this rank puts to 'to', in memory that must stay until the epoch ends. */
static unsigned char *put_start(struct window *window, int to)
{
    unsigned char *out = check_buffer(window->slot);

    check_fill(out, window->slot, key_of(window, check.rank, to));
    MPI_Put(out, (int)window->slot, MPI_BYTE, to, slot_at(window, to, check.rank),
            (int)window->slot, MPI_BYTE, window->win);
    return out;
}

static unsigned char *get_start(struct window *window, int from)
{
    unsigned char *in = check_buffer(window->slot);

    MPI_Get(in, (int)window->slot, MPI_BYTE, from, slot_at(window, from, check.ranks),
            (int)window->slot, MPI_BYTE, window->win);
    return in;
}

static void get_end(struct window *window, unsigned char *in, int from, const char *what)
{
    check_verify(in, window->slot, key_of(window, from, from), what);
    check_untouched(in, window->slot, window->slot, what);
    free(in);
}

/* --- Fence ------------------------------------------------------------------------------------ */

static void fence_run(struct window *window)
{
    int rank, n = check.ranks;
    unsigned char **out = calloc((size_t)n, sizeof *out), **in = calloc((size_t)n, sizeof *in);
    int64_t one = check.rank + 1, *count;

    CHECK(out && in, "no memory");
    window_fill(window);
    MPI_Win_fence(0, window->win);
    for (rank = 0; rank < n; rank++) {
        out[rank] = put_start(window, rank);
        in[rank] = get_start(window, rank);
        MPI_Accumulate(&one, 1, MPI_INT64_T, rank, window->bases[rank], 1, MPI_INT64_T, MPI_SUM,
                       window->win);
    }
    MPI_Win_fence(0, window->win);
    for (rank = 0; rank < n; rank++) {
        check_verify(slot_memory(window, rank), window->slot, key_of(window, rank, check.rank),
                     "put under fence");
        get_end(window, in[rank], rank, "get under fence");
        free(out[rank]);
    }
    count = counters(window);
    CHECK(count[0] == n * (n + 1) / 2, "accumulate under fence: %ld", (long)count[0]);
    MPI_Win_fence(0, window->win);
    free(out);
    free(in);
}

/* --- Post, start, complete, wait -------------------------------------------------------------- */

static void pscw_run(struct window *window)
{
    int n = check.ranks, to = (check.rank + 1) % n, from = (check.rank + n - 1) % n;
    unsigned char *out, *in;
    MPI_Group all, targets, origins;

    window_fill(window);
    MPI_Comm_group(window->comm, &all);
    MPI_Group_incl(all, 1, &to, &targets);
    MPI_Group_incl(all, 1, &from, &origins);
    MPI_Win_post(origins, 0, window->win);
    MPI_Win_start(targets, 0, window->win);
    out = put_start(window, to);
    in = get_start(window, to);
    MPI_Win_complete(window->win);
    MPI_Win_wait(window->win);
    check_verify(slot_memory(window, from), window->slot, key_of(window, from, check.rank),
                 "put under post");
    get_end(window, in, to, "get under start");
    free(out);
    MPI_Group_free(&all);
    MPI_Group_free(&targets);
    MPI_Group_free(&origins);
    MPI_Barrier(window->comm);
}

/* --- Locks ------------------------------------------------------------------------------------ */

/* Under an exclusive lock reading, adding and writing back is one step. */
static void exclusive_run(struct window *window)
{
    enum { TIMES = 5 };
    int64_t got, *count = counters(window);
    int i, rank, n = check.ranks;

    window_fill(window);
    MPI_Barrier(window->comm);
    for (i = 0; i < TIMES; i++)
        for (rank = 0; rank < n; rank++) {
            MPI_Win_lock(MPI_LOCK_EXCLUSIVE, rank, 0, window->win);
            MPI_Get(&got, 1, MPI_INT64_T, rank, window->bases[rank] + 8, 1, MPI_INT64_T,
                    window->win);
            MPI_Win_flush(rank, window->win);
            got++;
            MPI_Put(&got, 1, MPI_INT64_T, rank, window->bases[rank] + 8, 1, MPI_INT64_T,
                    window->win);
            MPI_Win_unlock(rank, window->win);
        }
    MPI_Barrier(window->comm);
    MPI_Win_lock(MPI_LOCK_SHARED, check.rank, 0, window->win);
    CHECK(count[1] == TIMES * n, "exclusive locks: %ld, not %d", (long)count[1], TIMES * n);
    MPI_Win_unlock(check.rank, window->win);
    check_count(sizeof *count);
    MPI_Barrier(window->comm);
}

/* Everything that is atomic, at all ranks at once. */
static void atomics_run(struct window *window)
{
    int64_t one = 1, old, expected, next, sum[8], result[8], *count = counters(window);
    int i, rank, n = check.ranks;

    window_fill(window);
    MPI_Barrier(window->comm);
    MPI_Win_lock_all(0, window->win);
    for (rank = 0; rank < n; rank++) {
        MPI_Fetch_and_op(&one, &old, MPI_INT64_T, rank, window->bases[rank] + 16, MPI_SUM,
                         window->win);
        MPI_Win_flush(rank, window->win);
        CHECK(old >= 0 && old < n, "fetch_and_op: %ld", (long)old);
        do { /* one more, as often as somebody else was faster */
            MPI_Fetch_and_op(NULL, &expected, MPI_INT64_T, rank, window->bases[rank] + 24,
                             MPI_NO_OP, window->win);
            MPI_Win_flush(rank, window->win);
            next = expected + 1;
            MPI_Compare_and_swap(&next, &expected, &old, MPI_INT64_T, rank,
                                 window->bases[rank] + 24, window->win);
            MPI_Win_flush(rank, window->win);
        } while (old != expected);
        for (i = 0; i < 8; i++)
            sum[i] = i + 1;
        MPI_Get_accumulate(sum, 8, MPI_INT64_T, result, 8, MPI_INT64_T, rank,
                           window->bases[rank] + 64, 8, MPI_INT64_T, MPI_SUM, window->win);
        MPI_Win_flush(rank, window->win);
        for (i = 0; i < 8; i++)
            CHECK(result[i] == result[0] * (i + 1), "get_accumulate: %ld", (long)result[i]);
    }
    MPI_Win_unlock_all(window->win);
    MPI_Barrier(window->comm);
    MPI_Win_lock(MPI_LOCK_SHARED, check.rank, 0, window->win);
    CHECK(count[2] == n && count[3] == n && count[8] == n && count[15] == 8 * n,
          "atomics: %ld, %ld, %ld, %ld on %d ranks", (long)count[2], (long)count[3], (long)count[8],
          (long)count[15], n);
    MPI_Win_unlock(check.rank, window->win);
    check_count(18 * sizeof *count);
    MPI_Barrier(window->comm);
}

/* Requests, puts and gets of all ranks at once under shared locks. */
static void shared_run(struct window *window)
{
    int rank, n = check.ranks;
    MPI_Request request;
    unsigned char *out, *in;

    window_fill(window);
    MPI_Barrier(window->comm);
    MPI_Win_lock_all(0, window->win);
    for (rank = 0; rank < n; rank++) {
        out = put_start(window, rank);
        in = check_buffer(window->slot);
        MPI_Rget(in, (int)window->slot, MPI_BYTE, rank, slot_at(window, rank, n), (int)window->slot,
                 MPI_BYTE, window->win, &request);
        MPI_Wait(&request, MPI_STATUS_IGNORE);
        get_end(window, in, rank, "rget");
        MPI_Win_flush_local(rank, window->win);
        free(out);
    }
    MPI_Win_flush_all(window->win);
    MPI_Win_unlock_all(window->win);
    MPI_Barrier(window->comm);
    MPI_Win_lock(MPI_LOCK_SHARED, check.rank, 0, window->win);
    for (rank = 0; rank < n; rank++)
        check_verify(slot_memory(window, rank), window->slot, key_of(window, rank, check.rank),
                     "put under a shared lock");
    MPI_Win_unlock(check.rank, window->win);
    MPI_Barrier(window->comm);
}

/* Typed puts: every other element, straight into the target's memory. */
static void strided_run(struct window *window)
{
    int n = check.ranks, to = (check.rank + 1) % n, from = (check.rank + n - 1) % n;
    size_t i, count = window->slot / 16;
    int64_t *out = malloc((count + 1) * sizeof *out);
    int64_t *slot = (int64_t *)(void *)slot_memory(window, from);
    MPI_Datatype strided;

    CHECK(out != NULL, "no memory");
    window_fill(window);
    for (i = 0; i < count; i++)
        out[i] = (int64_t)key_of(window, check.rank, to) + (int64_t)i;
    MPI_Type_vector((int)count, 1, 2, MPI_INT64_T, &strided);
    MPI_Type_commit(&strided);
    MPI_Win_fence(0, window->win);
    MPI_Put(out, (int)count, MPI_INT64_T, to, slot_at(window, to, check.rank), 1, strided,
            window->win);
    MPI_Win_fence(0, window->win);
    for (i = 0; i < count; i++)
        CHECK(slot[2 * i] == (int64_t)key_of(window, from, check.rank) + (int64_t)i &&
                  slot[2 * i + 1] == 0,
              "strided put: element %zu of %zu", i, count);
    check_count(count * sizeof *out);
    MPI_Win_fence(0, window->win);
    MPI_Type_free(&strided);
    free(out);
}

int main(int argc, char **argv)
{
    struct window window = {0};
    uint64_t sequence;
    unsigned how;

    check_start(argc, argv, MPI_THREAD_SINGLE);
    sequence = check_sequence(0, 0);
    MPI_Comm_dup(MPI_COMM_WORLD, &window.comm);
    while (check_continue())
        for (how = 0; how < 3; how++) {
            window_open(&window, how, 64 + check_draw_size(&sequence, SLOT_MAXIMUM));
            fence_run(&window);
            pscw_run(&window);
            exclusive_run(&window);
            atomics_run(&window);
            shared_run(&window);
            if (how != 2)
                strided_run(&window);
            window_close(&window, how == 0);
        }
    MPI_Comm_free(&window.comm);
    return check_finish();
}
