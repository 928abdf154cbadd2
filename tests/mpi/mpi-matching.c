/* Matching: wildcards, probes of all kinds, cancelled and truncated receives, completion of some of
 * many. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "mpi-check.h"

#include <stdlib.h>
#include <string.h>

#define SIZE_MAXIMUM ((size_t)1 << 20)
/* Of larger ones, Open MPI 4.1's ob1 lets the peer write past the end of the buffer, over btl/tcp
 * too. */
#define TRUNCATED_MAXIMUM ((size_t)60000)
#define MESSAGES          24 /* of each rank to rank 0 in a round */
#define TAGS              5

static uint64_t serial; /* of rounds, the same in all ranks */

/* What message 'i' of rank 'from' is, in this round: all ranks know. */
static size_t message_of(int from, int i, int *tag, uint64_t *key)
{
    uint64_t sequence = check_sequence(serial, (uint64_t)from << 20 | (unsigned)i);

    *tag = (int)(check_draw(&sequence) % TAGS);
    *key = check_draw(&sequence);
    return check_draw_size(&sequence, i % 8 == 0 ? SIZE_MAXIMUM : 80000);
}

/* Sends this rank's messages of the round to rank 0, some without waiting for the one before. */
static void messages_send(MPI_Comm comm)
{
    MPI_Request requests[MESSAGES];
    unsigned char *buffers[MESSAGES];
    uint64_t key;
    size_t size;
    int i, tag;

    for (i = 0; i < MESSAGES; i++) {
        size = message_of(check.rank, i, &tag, &key);
        buffers[i] = check_buffer(size);
        check_fill(buffers[i], size, key);
        MPI_Isend(buffers[i], (int)size, MPI_BYTE, 0, tag, comm, &requests[i]);
    }
    MPI_Waitall(MESSAGES, requests, MPI_STATUSES_IGNORE);
    for (i = 0; i < MESSAGES; i++)
        free(buffers[i]);
}

/* What rank 0 has had of each rank: a message must be the first of its tag that is still to come.
 */
struct ledger {
    bool had[MESSAGES];
};

static void ledger_take(struct ledger *ledger, const MPI_Status *status, const void *data,
                        size_t room, const char *what)
{
    struct ledger *of = &ledger[status->MPI_SOURCE];
    uint64_t key;
    size_t size;
    int i, tag;

    for (i = 0; i < MESSAGES; i++) {
        size = message_of(status->MPI_SOURCE, i, &tag, &key);
        if (!of->had[i] && tag == status->MPI_TAG)
            break;
    }
    CHECK(i < MESSAGES, "%s: a message too many from %d with tag %d", what, status->MPI_SOURCE,
          status->MPI_TAG);
    of->had[i] = true;
    check_status(status, status->MPI_SOURCE, tag, size, what);
    check_verify(data, size, key, what);
    check_untouched(data, size, room, what);
}

static void receive_wildcard(struct ledger *ledger, MPI_Comm comm)
{
    unsigned char *buffer = check_buffer(SIZE_MAXIMUM);
    MPI_Status status;

    MPI_Recv(buffer, (int)SIZE_MAXIMUM, MPI_BYTE, MPI_ANY_SOURCE, MPI_ANY_TAG, comm, &status);
    ledger_take(ledger, &status, buffer, SIZE_MAXIMUM, "wildcard receive");
    free(buffer);
}

/* Probes for anything, then receives exactly that. */
static void receive_probed(struct ledger *ledger, MPI_Comm comm, bool immediate)
{
    MPI_Status status = {0}, received;
    unsigned char *buffer;
    int flag = 0, size;

    if (immediate)
        while (!flag)
            MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm, &flag, &status);
    else
        MPI_Probe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm, &status);
    MPI_Get_count(&status, MPI_BYTE, &size);
    buffer = check_buffer((size_t)size);
    MPI_Recv(buffer, size, MPI_BYTE, status.MPI_SOURCE, status.MPI_TAG, comm, &received);
    check_status(&received, status.MPI_SOURCE, status.MPI_TAG, (size_t)size, "receive after probe");
    ledger_take(ledger, &received, buffer, (size_t)size, "receive after probe");
    free(buffer);
}

/* Takes a message out of the queue by a matched probe; others may overtake it before it is
 * received. */
static void receive_matched(struct ledger *ledger, MPI_Comm comm, bool immediate)
{
    MPI_Message message;
    MPI_Request request;
    MPI_Status status = {0};
    unsigned char *buffer;
    int flag = 0, size;

    if (immediate)
        while (!flag)
            MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm, &flag, &message, &status);
    else
        MPI_Mprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm, &message, &status);
    MPI_Get_count(&status, MPI_BYTE, &size);
    buffer = check_buffer((size_t)size);
    if (immediate) {
        MPI_Imrecv(buffer, size, MPI_BYTE, &message, &request);
        MPI_Wait(&request, &status);
    } else {
        MPI_Mrecv(buffer, size, MPI_BYTE, &message, &status);
    }
    CHECK(message == MPI_MESSAGE_NULL, "a matched message is still there after its receive");
    ledger_take(ledger, &status, buffer, (size_t)size, "matched receive");
    free(buffer);
}

/* Everybody floods rank 0, which takes the messages in by all means in turn. */
static void flood_run(MPI_Comm comm)
{
    struct ledger *ledger = calloc((size_t)check.ranks, sizeof *ledger);
    uint64_t sequence = check_sequence(serial, 7);
    int left = MESSAGES * (check.ranks - 1);

    CHECK(ledger != NULL, "no memory");
    if (check.rank != 0)
        messages_send(comm);
    for (; check.rank == 0 && left > 0; left--)
        switch (check_draw(&sequence) % 5) {
        case 0:
            receive_wildcard(ledger, comm);
            break;
        case 1:
            receive_probed(ledger, comm, false);
            break;
        case 2:
            receive_probed(ledger, comm, true);
            break;
        case 3:
            receive_matched(ledger, comm, false);
            break;
        default:
            receive_matched(ledger, comm, true);
        }
    free(ledger);
}

/* Receives that nobody sends to are cancelled; those that race with a message either get it or
 * leave it. */
static void cancel_run(MPI_Comm comm)
{
    int to = (check.rank + 1) % check.ranks, from = (check.rank + check.ranks - 1) % check.ranks;
    uint64_t sequence = check_sequence(serial, 8);
    size_t size = check_draw_size(&sequence, 200000);
    unsigned char *in = check_buffer(size), *never = check_buffer(size), *out = check_buffer(size);
    MPI_Request lost, race, send;
    MPI_Status status;
    int cancelled;

    check_fill(out, size, check_sequence(serial, (unsigned)check.rank + 100));
    MPI_Irecv(never, (int)size, MPI_BYTE, MPI_ANY_SOURCE, 99, comm, &lost);
    MPI_Irecv(in, (int)size, MPI_BYTE, from, 3, comm, &race);
    MPI_Isend(out, (int)size, MPI_BYTE, to, 3, comm, &send);
    MPI_Cancel(&lost);
    MPI_Wait(&lost, &status);
    MPI_Test_cancelled(&status, &cancelled);
    CHECK(cancelled, "a receive without a message could not be cancelled");
    MPI_Cancel(&race);
    MPI_Wait(&race, &status);
    MPI_Test_cancelled(&status, &cancelled);
    if (cancelled) {
        check_untouched(in, 0, size, "cancelled receive");
        MPI_Recv(in, (int)size, MPI_BYTE, from, 3, comm, &status);
    }
    check_status(&status, from, 3, size, "receive after a cancelled one");
    check_verify(in, size, check_sequence(serial, (unsigned)from + 100), "cancelled receive");
    check_untouched(in, size, size, "cancelled receive");
    check_untouched(never, 0, size, "cancelled receive");
    MPI_Wait(&send, MPI_STATUS_IGNORE);
    free(in);
    free(never);
    free(out);
}

/* Buffers that are too small, down to nothing: an error, never a byte too many, and the sender goes
 * on. */
static void truncation_run(MPI_Comm comm)
{
    int to = (check.rank + 1) % check.ranks, from = (check.rank + check.ranks - 1) % check.ranks;
    uint64_t sequence = check_sequence(serial, 9);
    size_t size = 1 + check_draw_size(&sequence, TRUNCATED_MAXIMUM);
    size_t room = size / 2;
    bool expected = check_draw(&sequence) % 2;
    unsigned char *in, *out = check_buffer(size);
    MPI_Request send, receive;
    MPI_Status status;
    int error, class;

    if (check_draw(&sequence) % 3 == 0)
        room = 0;
    else if (check_draw(&sequence) % 2)
        room = size - 1;
    in = check_buffer(room);
    check_fill(out, size, check_sequence(serial, (unsigned)check.rank + 200));
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    if (expected)
        MPI_Irecv(in, (int)room, MPI_BYTE, from, 4, comm, &receive);
    MPI_Isend(out, (int)size, MPI_BYTE, to, 4, comm, &send);
    if (!expected) {
        MPI_Probe(from, 4, comm, &status);
        MPI_Irecv(in, (int)room, MPI_BYTE, from, 4, comm, &receive);
    }
    error = MPI_Wait(&receive, &status);
    MPI_Error_class(error, &class);
    CHECK(class == MPI_ERR_TRUNCATE, "a receive of %zu bytes into %zu gave error class %d", size,
          room, class);
    check_untouched(in, room, room, "truncated receive");
    CHECK(MPI_Wait(&send, MPI_STATUS_IGNORE) == MPI_SUCCESS,
          "the send of a truncated message failed");
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_ARE_FATAL);
    free(in);
    free(out);
}

enum { COUNT = 16 };

/* Waits for the first, for some or for all of many receives; 'how' says which. */
static int some_complete(int how, MPI_Request *requests, int *indices, MPI_Status *status)
{
    int done = 0;

    switch (how) {
    case 0:
        MPI_Waitany(COUNT, requests, &indices[0], &status[0]);
        return indices[0] == MPI_UNDEFINED ? 0 : 1;
    case 1:
        MPI_Waitsome(COUNT, requests, &done, indices, status);
        return done;
    case 2:
        MPI_Testsome(COUNT, requests, &done, indices, status);
        return done == MPI_UNDEFINED ? 0 : done;
    default:
        MPI_Testany(COUNT, requests, &indices[0], &done, &status[0]);
        return done && indices[0] != MPI_UNDEFINED ? 1 : 0;
    }
}

static void some_run(MPI_Comm comm)
{
    int to = (check.rank + 1) % check.ranks, from = (check.rank + check.ranks - 1) % check.ranks;
    uint64_t sequence = check_sequence(serial, 10);
    MPI_Request receives[COUNT], sends[COUNT];
    MPI_Status status[COUNT];
    unsigned char *in[COUNT], *out[COUNT];
    int i, n, done = 0, flag, indices[COUNT];
    size_t size[COUNT];

    for (i = 0; i < COUNT; i++) {
        size[i] = check_draw_size(&sequence, 150000);
        in[i] = check_buffer(size[i]);
        out[i] = check_buffer(size[i]);
        check_fill(out[i], size[i],
                   check_sequence(serial, 300 + (unsigned)(check.rank * COUNT + i)));
        MPI_Irecv(in[i], (int)size[i], MPI_BYTE, from, 10 + i, comm, &receives[i]);
    }
    for (i = COUNT - 1; i >= 0; i--)
        MPI_Isend(out[i], (int)size[i], MPI_BYTE, to, 10 + i, comm, &sends[i]);
    while (done < COUNT) {
        n = some_complete((int)(check_draw(&sequence) % 4), receives, indices, status);
        for (i = 0; i < n; i++) {
            int at = indices[i];

            check_status(&status[i], from, 10 + at, size[at], "one of many");
            check_verify(in[at], size[at],
                         check_sequence(serial, 300 + (unsigned)(from * COUNT + at)),
                         "one of many");
            check_untouched(in[at], size[at], size[at], "one of many");
        }
        done += n;
    }
    do
        MPI_Testall(COUNT, sends, &flag, MPI_STATUSES_IGNORE);
    while (!flag);
    for (i = 0; i < COUNT; i++) {
        free(in[i]);
        free(out[i]);
    }
}

/* Sendrecv, in place too, with itself, and with nobody. */
static void sendrecv_run(MPI_Comm comm)
{
    int shift = (int)(serial % (unsigned)check.ranks); /* 0: with itself */
    int to = (check.rank + shift) % check.ranks,
        from = (check.rank + check.ranks - shift) % check.ranks;
    uint64_t sequence = check_sequence(serial, 11);
    size_t size = check_draw_size(&sequence, SIZE_MAXIMUM);
    unsigned char *in = check_buffer(size), *out = check_buffer(size);
    MPI_Status status;

    check_fill(out, size, check_sequence(serial, (unsigned)check.rank + 400));
    MPI_Sendrecv(out, (int)size, MPI_BYTE, to, 5, in, (int)size, MPI_BYTE, from, 5, comm, &status);
    check_status(&status, from, 5, size, "sendrecv");
    check_verify(in, size, check_sequence(serial, (unsigned)from + 400), "sendrecv");
    MPI_Sendrecv_replace(out, (int)size, MPI_BYTE, to, 6, from, 6, comm, &status);
    check_status(&status, from, 6, size, "sendrecv in place");
    check_verify(out, size, check_sequence(serial, (unsigned)from + 400), "sendrecv in place");
    check_untouched(in, size, size, "sendrecv");
    check_untouched(out, size, size, "sendrecv in place");
    MPI_Sendrecv(out, (int)size, MPI_BYTE, MPI_PROC_NULL, 7, in, (int)size, MPI_BYTE, MPI_PROC_NULL,
                 7, comm, &status);
    CHECK(status.MPI_SOURCE == MPI_PROC_NULL, "a receive from nobody got something");
    free(in);
    free(out);
}

int main(int argc, char **argv)
{
    MPI_Comm comm, flood;

    check_start(argc, argv, MPI_THREAD_SINGLE);
    CHECK(check.ranks > 1, "at least two ranks are needed");
    while (check_continue()) {
        serial++;
        MPI_Comm_dup(MPI_COMM_WORLD, &comm);
        /* Its receives take anything: the others may be further than rank 0. */
        MPI_Comm_dup(MPI_COMM_WORLD, &flood);
        flood_run(flood);
        cancel_run(comm);
        truncation_run(comm);
        some_run(comm);
        sendrecv_run(comm);
        MPI_Comm_free(&flood);
        MPI_Comm_free(&comm);
    }
    return check_finish();
}
