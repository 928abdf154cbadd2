/* Point-to-point: every send mode, blocking, non-blocking and persistent, on both sides of each
 * protocol's limit. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "mpi-check.h"

#include <stdio.h>
#include <stdlib.h>

#define SIZE_MAXIMUM ((size_t)4 << 20)
#define BURST        48

enum form { BLOCKING, IMMEDIATE, PERSISTENT, FORMS };
static const char *const form_names[] = {"blocking", "immediate", "persistent"};

static const struct mode {
    const char *name;
    int (*send)(const void *, int, MPI_Datatype, int, int, MPI_Comm);
    int (*start)(const void *, int, MPI_Datatype, int, int, MPI_Comm, MPI_Request *);
    int (*init)(const void *, int, MPI_Datatype, int, int, MPI_Comm, MPI_Request *);
    bool ready; /* the receive must be there first */
} modes[] = {
    {"standard", MPI_Send, MPI_Isend, MPI_Send_init, false},
    {"buffered", MPI_Bsend, MPI_Ibsend, MPI_Bsend_init, false},
    {"synchronous", MPI_Ssend, MPI_Issend, MPI_Ssend_init, false},
    {"ready", MPI_Rsend, MPI_Irsend, MPI_Rsend_init, true},
};

/* One transfer of each rank to the rank 'shift' above it. */
struct transfer {
    const struct mode *mode;
    enum form form;
    size_t size;
    int to, from, tag;
    uint64_t serial;
    unsigned char *out, *in;
    char name[80];
};

static uint64_t key_of(int from, int to, uint64_t serial)
{
    return check_sequence((uint64_t)from << 32 | (uint32_t)to, serial);
}

static void message_send(struct transfer *transfer, MPI_Request *request)
{
    const struct mode *mode = transfer->mode;
    int size = (int)transfer->size;

    *request = MPI_REQUEST_NULL;
    if (transfer->form == BLOCKING) {
        mode->send(transfer->out, size, MPI_BYTE, transfer->to, transfer->tag, MPI_COMM_WORLD);
        return;
    }
    (transfer->form == IMMEDIATE ? mode->start : mode->init)(
        transfer->out, size, MPI_BYTE, transfer->to, transfer->tag, MPI_COMM_WORLD, request);
    if (transfer->form == PERSISTENT)
        MPI_Start(request);
}

static void message_receive(struct transfer *transfer, MPI_Request *request)
{
    (transfer->form == PERSISTENT ? MPI_Recv_init : MPI_Irecv)(
        transfer->in, (int)transfer->size, MPI_BYTE, transfer->from, transfer->tag, MPI_COMM_WORLD,
        request);
    if (transfer->form == PERSISTENT)
        MPI_Start(request);
}

static void request_end(MPI_Request *request, MPI_Status *status)
{
    MPI_Wait(request, status);
    if (*request != MPI_REQUEST_NULL)
        MPI_Request_free(request);
}

static void transfer_check(struct transfer *transfer, const MPI_Status *status)
{
    check_status(status, transfer->from, transfer->tag, transfer->size, transfer->name);
    check_verify(transfer->in, transfer->size, key_of(transfer->from, check.rank, transfer->serial),
                 transfer->name);
    check_untouched(transfer->in, transfer->size, transfer->size, transfer->name);
}

/* The receive is posted before the message is sent; for ready sends that is certain. */
static void exchange_expected(struct transfer *transfer)
{
    MPI_Request send, receive;
    MPI_Status status;

    message_receive(transfer, &receive);
    if (transfer->mode->ready)
        MPI_Sendrecv(NULL, 0, MPI_BYTE, transfer->from, 1, NULL, 0, MPI_BYTE, transfer->to, 1,
                     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    message_send(transfer, &send);
    request_end(&receive, &status);
    request_end(&send, MPI_STATUS_IGNORE);
    transfer_check(transfer, &status);
}

/* The message is sent first, as far as that cannot deadlock, and received by a blocking receive. */
static void exchange_unexpected(struct transfer *transfer)
{
    MPI_Request send = MPI_REQUEST_NULL;
    /* Among three in a ring that block, one must receive first, and one suffices. */
    bool receive_first = transfer->form == BLOCKING && check.rank == 0;
    MPI_Status status;

    if (!receive_first)
        message_send(transfer, &send);
    MPI_Recv(transfer->in, (int)transfer->size, MPI_BYTE, transfer->from, transfer->tag,
             MPI_COMM_WORLD, &status);
    if (receive_first)
        message_send(transfer, &send);
    request_end(&send, MPI_STATUS_IGNORE);
    transfer_check(transfer, &status);
}

/* A ring over all ranks needs a shift that leads through all of them; pairs are rings too. */
static void modes_run(uint64_t *sequence)
{
    static uint64_t serial;
    struct transfer transfer;
    unsigned mode, form, expected;

    for (mode = 0; mode < CHECK_LENGTH(modes); mode++)
        for (form = 0; form < FORMS; form++)
            for (expected = modes[mode].ready; expected < 2; expected++) {
                int shift =
                    expected ? 1 + (int)(check_draw(sequence) % (unsigned)(check.ranks - 1)) : 1;

                transfer =
                    (struct transfer){.mode = &modes[mode],
                                      .form = (enum form)form,
                                      .size = check_draw_size(sequence, SIZE_MAXIMUM),
                                      .to = (check.rank + shift) % check.ranks,
                                      .from = (check.rank + check.ranks - shift) % check.ranks,
                                      .tag = 2 + (int)(serial % 1000),
                                      .serial = serial++};
                snprintf(transfer.name, sizeof transfer.name, "%s %s send, %s", form_names[form],
                         modes[mode].name, expected ? "expected" : "unexpected");
                transfer.out = check_buffer(transfer.size);
                transfer.in = check_buffer(transfer.size);
                check_fill(transfer.out, transfer.size,
                           key_of(check.rank, transfer.to, transfer.serial));
                (expected ? exchange_expected : exchange_unexpected)(&transfer);
                free(transfer.out);
                free(transfer.in);
            }
}

/* Many messages of all sizes at once between all ranks, with one tag: only their order tells them
 * apart. */
static void burst_run(uint64_t *sequence)
{
    static uint64_t burst;
    MPI_Request requests[2 * BURST];
    MPI_Status status[2 * BURST];
    unsigned char *in[BURST], *out[BURST];
    size_t size[BURST];
    int i, shift = 1 + (int)(check_draw(sequence) % (unsigned)(check.ranks - 1));
    int to = (check.rank + shift) % check.ranks;
    int from = (check.rank + check.ranks - shift) % check.ranks;

    burst++;
    for (i = 0; i < BURST; i++) {
        size[i] = check_draw_size(sequence, i % 8 == 7 ? 300000 : 70000);
        in[i] = check_buffer(size[i]);
        out[i] = check_buffer(size[i]);
        check_fill(out[i], size[i], key_of(check.rank, to, burst << 32 | (unsigned)i));
    }
    for (i = 0; i < BURST; i++)
        MPI_Isend(out[i], (int)size[i], MPI_BYTE, to, 0, MPI_COMM_WORLD, &requests[BURST + i]);
    for (i = 0; i < BURST; i++)
        MPI_Irecv(in[i], (int)size[i], MPI_BYTE, from, 0, MPI_COMM_WORLD, &requests[i]);
    MPI_Waitall(2 * BURST, requests, status);
    for (i = 0; i < BURST; i++) {
        check_status(&status[i], from, 0, size[i], "burst");
        check_verify(in[i], size[i], key_of(from, check.rank, burst << 32 | (unsigned)i), "burst");
        check_untouched(in[i], size[i], size[i], "burst");
        free(in[i]);
        free(out[i]);
    }
}

/* Persistent requests in both directions, started again and again together. */
static void persistent_run(uint64_t *sequence)
{
    static uint64_t serial;
    size_t size = check_draw_size(sequence, 300000);
    int to = (check.rank + 1) % check.ranks, from = (check.rank + check.ranks - 1) % check.ranks;
    unsigned char *out = check_buffer(size), *in = check_buffer(size);
    MPI_Request requests[2];
    MPI_Status status[2];
    int i;

    MPI_Recv_init(in, (int)size, MPI_BYTE, from, 0, MPI_COMM_WORLD, &requests[0]);
    MPI_Send_init(out, (int)size, MPI_BYTE, to, 0, MPI_COMM_WORLD, &requests[1]);
    for (i = 0; i < 10; i++) {
        serial++;
        check_poison(in, size);
        check_fill(out, size, key_of(check.rank, to, ~serial));
        MPI_Startall(2, requests);
        MPI_Waitall(2, requests, status);
        check_status(&status[0], from, 0, size, "persistent pair");
        check_verify(in, size, key_of(from, check.rank, ~serial), "persistent pair");
        check_untouched(in, size, size, "persistent pair");
    }
    MPI_Request_free(&requests[0]);
    MPI_Request_free(&requests[1]);
    free(out);
    free(in);
}

int main(int argc, char **argv)
{
    /* Nobody says when a buffered send is done: there is room for all of a round. */
    size_t room = 2 * FORMS * (SIZE_MAXIMUM + MPI_BSEND_OVERHEAD + 64);
    uint64_t sequence;
    void *buffer;
    int size;

    check_start(argc, argv, MPI_THREAD_SINGLE);
    sequence = check_sequence(0, 0);
    CHECK(check.ranks > 1, "at least two ranks are needed");
    while (check_continue()) {
        buffer = malloc(room);
        CHECK(buffer != NULL, "no memory");
        MPI_Buffer_attach(buffer, (int)room);
        modes_run(&sequence);
        MPI_Buffer_detach(&buffer, &size);
        free(buffer);
        burst_run(&sequence);
        persistent_run(&sequence);
    }
    return check_finish();
}
