/* Thread levels: many threads at once in MPI, one after the other, or only the main one while
 * others compute. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "mpi-check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define THREADS      4
#define SIZE_MAXIMUM ((size_t)512 << 10)
#define ROUNDS       2 /* of each thread between two agreements to go on */

struct worker {
    pthread_t thread;
    int number;
    MPI_Comm own;    /* of this thread in all ranks */
    MPI_Comm shared; /* of all threads */
    uint64_t serial;
};

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool stop;

/* At MPI_THREAD_SERIALIZED threads enter MPI by turns. */
static void turn_take(void)
{
    if (check.level == MPI_THREAD_SERIALIZED)
        pthread_mutex_lock(&turn);
}

static void turn_give(void)
{
    if (check.level == MPI_THREAD_SERIALIZED)
        pthread_mutex_unlock(&turn);
}

static uint64_t key_of(const struct worker *worker, int from, int to, int index)
{
    return check_sequence((uint64_t)from << 40 | (uint64_t)to << 20 |
                              (uint64_t)worker->number << 10 | (unsigned)index,
                          worker->serial);
}

/* Waits without keeping the turn to itself. */
static void request_wait(MPI_Request *request)
{
    int done = 0;

    while (check.level == MPI_THREAD_SERIALIZED && !done) {
        turn_take();
        MPI_Test(request, &done, MPI_STATUS_IGNORE);
        turn_give();
    }
    MPI_Wait(request, MPI_STATUS_IGNORE);
}

/* With the same thread of all other ranks; only the tag keeps it apart from other threads'
 * messages. */
static void exchange_shared(struct worker *worker, uint64_t *sequence)
{
    int shift, n = check.ranks;
    MPI_Request send, receive;

    for (shift = 1; shift < n; shift++) {
        int to = (check.rank + shift) % n, from = (check.rank + n - shift) % n;
        size_t size = check_draw_size(sequence, SIZE_MAXIMUM);
        unsigned char *in = check_buffer(size), *out = check_buffer(size);

        check_fill(out, size, key_of(worker, check.rank, to, shift));
        turn_take();
        MPI_Irecv(in, (int)size, MPI_BYTE, from, worker->number, worker->shared, &receive);
        (shift % 2 ? MPI_Isend : MPI_Issend)(out, (int)size, MPI_BYTE, to, worker->number,
                                             worker->shared, &send);
        turn_give();
        request_wait(&receive);
        request_wait(&send);
        check_verify(in, size, key_of(worker, from, check.rank, shift), "thread's message");
        check_untouched(in, size, size, "thread's message");
        free(in);
        free(out);
    }
}

/* On the thread's own communicator: whatever comes, found by a matched probe. */
static void exchange_probed(struct worker *worker, uint64_t *sequence)
{
    int flag, n = check.ranks, to = (check.rank + 1) % n, from = (check.rank + n - 1) % n;
    size_t size = check_draw_size(sequence, SIZE_MAXIMUM);
    unsigned char *in = check_buffer(size), *out = check_buffer(size);
    MPI_Request request;
    MPI_Message message;
    MPI_Status status;

    check_fill(out, size, key_of(worker, check.rank, to, 100));
    turn_take();
    MPI_Isend(out, (int)size, MPI_BYTE, to, 3, worker->own, &request);
    turn_give();
    for (flag = 0; !flag;) {
        turn_take();
        MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, worker->own, &flag, &message, &status);
        turn_give();
    }
    check_status(&status, from, 3, size, "thread's probe");
    if (check.level == MPI_THREAD_MULTIPLE) {
        MPI_Mrecv(in, (int)size, MPI_BYTE, &message, &status);
    } else {
        MPI_Request receive;

        turn_take();
        MPI_Imrecv(in, (int)size, MPI_BYTE, &message, &receive);
        turn_give();
        request_wait(&receive);
    }
    request_wait(&request);
    check_verify(in, size, key_of(worker, from, check.rank, 100), "thread's probed message");
    check_untouched(in, size, size, "thread's probed message");
    free(in);
    free(out);
}

/* A collective of the same thread in all ranks; non-blocking, so that nobody keeps the turn. */
static void collective(struct worker *worker, uint64_t *sequence)
{
    int i, n = check.ranks, count = 1 + (int)(check_draw(sequence) % 20000);
    int *in = malloc(sizeof(int) * (size_t)count), *out = malloc(sizeof(int) * (size_t)count);
    MPI_Request request;

    CHECK(in && out, "no memory");
    for (i = 0; i < count; i++)
        out[i] = check.rank * 3 + i + worker->number;
    if (check.level == MPI_THREAD_MULTIPLE && worker->serial % 2) {
        MPI_Allreduce(out, in, count, MPI_INT, MPI_SUM, worker->own);
    } else {
        turn_take();
        MPI_Iallreduce(out, in, count, MPI_INT, MPI_SUM, worker->own, &request);
        turn_give();
        request_wait(&request);
    }
    for (i = 0; i < count; i++)
        CHECK(in[i] == 3 * n * (n - 1) / 2 + n * (i + worker->number), "thread's sum %d of %d: %d",
              i, count, in[i]);
    check_count((size_t)count * sizeof(int));
    free(in);
    free(out);
}

static void *worker_run(void *argument)
{
    struct worker *worker = argument;
    uint64_t sequence;
    int i;

    for (i = 0; i < ROUNDS; i++) {
        worker->serial++;
        sequence = check_sequence(worker->serial, (unsigned)worker->number + 50);
        exchange_shared(worker, &sequence);
        exchange_probed(worker, &sequence);
        collective(worker, &sequence);
    }
    return NULL;
}

static void *compute(void *argument)
{
    volatile uint64_t state = 1;
    uint64_t copy;

    while (!atomic_load(&stop)) {
        copy = state;
        state = check_draw(&copy);
    }
    return argument;
}

/* Only the main thread is in MPI. */
static void funneled_run(struct worker *worker)
{
    pthread_t other;

    atomic_store(&stop, false);
    CHECK(pthread_create(&other, NULL, compute, NULL) == 0, "no thread");
    worker_run(worker);
    atomic_store(&stop, true);
    pthread_join(other, NULL);
}

/* The very first contact of a rank with each other one, by all threads at once. */
static void *contact_run(void *argument)
{
    struct worker *worker = argument;
    uint64_t sequence = check_sequence(0, (unsigned)worker->number + 40);

    exchange_shared(worker, &sequence);
    return NULL;
}

static void threads_run(struct worker *workers, void *(*run)(void *))
{
    int i;

    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&workers[i].thread, NULL, run, &workers[i]) == 0, "no thread");
    for (i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
}

int main(int argc, char **argv)
{
    struct worker workers[THREADS];
    int i;

    check_start(argc, argv, MPI_THREAD_MULTIPLE);
    CHECK(check.ranks > 1, "at least two ranks are needed");
    for (i = 0; i < THREADS; i++)
        workers[i] = (struct worker){.number = i, .shared = MPI_COMM_WORLD};
    if (check.level == MPI_THREAD_MULTIPLE)
        threads_run(workers, contact_run);
    for (i = 0; i < THREADS; i++)
        MPI_Comm_dup(MPI_COMM_WORLD, &workers[i].own);
    while (check_continue()) {
        if (check.level < MPI_THREAD_SERIALIZED)
            funneled_run(&workers[0]);
        else
            threads_run(workers, worker_run);
    }
    for (i = 0; i < THREADS; i++)
        MPI_Comm_free(&workers[i].own);
    return check_finish();
}
