/*
 * Reads btl/ninja's performance and control variables through MPI_T, around traffic of known size,
 * and changes those that may change. Started with 2 ranks; prints what rank 0 read, "NAME
 * VALUE...", and fails if it cannot be so. With an argument it writes that to btl_ninja_verbose
 * first.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define VALUES_MAX 64
#define ROUNDS     200
#define BYTES      20000
#define BURST                                                                                      \
    100 /* messages of BYTES: below retain_low, so that a send of them is done at once             \
         */

struct variable {
    const char *name;
    MPI_T_pvar_handle handle;
    int count;
    unsigned long before[VALUES_MAX], after[VALUES_MAX];
};

static struct variable variables[] = {
    {.name = "messages_sent"},  {.name = "messages_received"}, {.name = "bytes_sent"},
    {.name = "bytes_received"}, {.name = "switches"},          {.name = "replayed"},
    {.name = "duplicates"},     {.name = "reconnects"},        {.name = "retained_bytes"},
    {.name = "stalls"},         {.name = "stall_longest"},     {.name = "reads"},
};
#define VARIABLES (sizeof(variables) / sizeof(variables[0]))

static MPI_T_pvar_session session;

static void fail(const char *what, const char *name)
{
    printf("FAILED: %s: %s\n", what, name);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static void open_variable(struct variable *variable)
{
    char name[128];
    int index = -1, total = 0;

    snprintf(name, sizeof(name), "btl_ninja_%s", variable->name);
    MPI_T_pvar_get_num(&total);
    for (int i = 0; i < total && index < 0; i++) {
        char found[128], text[1024];
        int found_size = sizeof(found), text_size = sizeof(text);
        int verbosity, class, bind, readonly, continuous, atomic;
        MPI_Datatype type;
        MPI_T_enum enumeration;

        if (MPI_T_pvar_get_info(i, found, &found_size, &verbosity, &class, &type, &enumeration,
                                text, &text_size, &bind, &readonly, &continuous,
                                &atomic) != MPI_SUCCESS ||
            strcmp(found, name) != 0)
            continue;
        if (type != MPI_UNSIGNED_LONG || bind != MPI_T_BIND_NO_OBJECT || strlen(text) < 10)
            fail("type, binding or description is wrong", name);
        index = i;
    }
    if (index < 0)
        fail("there is no such variable", name);
    if (MPI_T_pvar_handle_alloc(session, index, NULL, &variable->handle, &variable->count) !=
            MPI_SUCCESS ||
        variable->count > VALUES_MAX)
        fail("no handle", name);
}

static void read_all(int after)
{
    for (size_t i = 0; i < VARIABLES; i++)
        if (MPI_T_pvar_read(session, variables[i].handle,
                            after ? variables[i].after : variables[i].before) != MPI_SUCCESS)
            fail("cannot be read", variables[i].name);
}

static unsigned long sum(const char *name, int after)
{
    unsigned long all = 0;

    for (size_t i = 0; i < VARIABLES; i++)
        for (int j = 0; strcmp(variables[i].name, name) == 0 && j < variables[i].count; j++)
            all += after ? variables[i].after[j] : variables[i].before[j];
    return all;
}

/* One exchange of `bytes` each way. */
static void exchange(int rank, void *buffer, int bytes)
{
    if (rank == 0) {
        MPI_Send(buffer, bytes, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
        MPI_Recv(buffer, bytes, MPI_BYTE, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else {
        MPI_Recv(buffer, bytes, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Send(buffer, bytes, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
    }
}

static MPI_T_cvar_handle open_control(const char *name)
{
    MPI_T_cvar_handle handle;
    int index, count;

    if (MPI_T_cvar_get_index(name, &index) != MPI_SUCCESS ||
        MPI_T_cvar_handle_alloc(index, NULL, &handle, &count) != MPI_SUCCESS)
        fail("there is no such control variable", name);
    return handle;
}

static unsigned read_control(const char *name)
{
    MPI_T_cvar_handle handle = open_control(name);
    unsigned value = 0;

    if (MPI_T_cvar_read(handle, &value) != MPI_SUCCESS)
        fail("control variable cannot be read", name);
    MPI_T_cvar_handle_free(&handle);
    return value;
}

/* Writes the number at `value`, which has the variable's type, and reads it back. */
static void write_control(const char *name, const void *value, size_t size)
{
    MPI_T_cvar_handle handle = open_control(name);
    unsigned char found[sizeof(unsigned long)] = {0};

    if (MPI_T_cvar_write(handle, value) != MPI_SUCCESS)
        fail("control variable cannot be written", name);
    if (MPI_T_cvar_read(handle, found) != MPI_SUCCESS || memcmp(found, value, size) != 0)
        fail("control variable is not what was written", name);
    MPI_T_cvar_handle_free(&handle);
}

static void write_bytes(const char *name, unsigned long value)
{
    write_control(name, &value, sizeof(value));
}

static void write_verbose(const char *text)
{
    int value = atoi(text);

    write_control("btl_ninja_verbose", &value, sizeof(value));
}

/*
 * Rank 0 sends a burst while rank 1 is outside MPI, where its control thread takes in no more than
 * inbox_limit. Returns what rank 0 then keeps for replay.
 */
static unsigned long retained_in_burst(int rank)
{
    static char burst[BURST][BYTES];
    MPI_Request requests[BURST];
    const struct timespec outside = {.tv_sec = 2}, part = {.tv_nsec = 400000000};
    unsigned long retained = 0;

    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0)
        nanosleep(&part, NULL); /* rank 1 has left the barrier */
    for (int i = 0; rank == 0 && i < BURST; i++)
        MPI_Isend(burst[i], BYTES, MPI_BYTE, 1, 2, MPI_COMM_WORLD, &requests[i]);
    nanosleep(rank == 0 ? &part : &outside, NULL);
    read_all(1);
    retained = sum("retained_bytes", 1);
    for (int i = 0; rank == 1 && i < BURST; i++)
        MPI_Irecv(burst[i], BYTES, MPI_BYTE, 0, 2, MPI_COMM_WORLD, &requests[i]);
    MPI_Waitall(BURST, requests, MPI_STATUSES_IGNORE);
    return retained;
}

/* What is written holds from then on. */
static void check_tuning(int rank)
{
    unsigned long taken_in, kept, limited;

    taken_in = retained_in_burst(rank);
    write_bytes("btl_ninja_inbox_limit", 1000);
    kept = retained_in_burst(rank);
    write_bytes("btl_ninja_retain_high", 200000);
    limited = retained_in_burst(rank);
    if (rank != 0)
        return;
    printf("retained %lu %lu %lu\n", taken_in, kept, limited);
    if (kept < BURST * BYTES / 2 || taken_in > kept / 4)
        fail("has no effect", "btl_ninja_inbox_limit");
    if (limited < 100000 || limited > 200000 + 4 * BYTES)
        fail("has no effect", "btl_ninja_retain_high");
}

int main(int argc, char **argv)
{
    static char buffer[BYTES];
    int rank, provided;
    double until;

    MPI_Init(&argc, &argv);
    MPI_T_init_thread(MPI_THREAD_SINGLE, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_T_pvar_session_create(&session);
    for (size_t i = 0; i < VARIABLES; i++)
        open_variable(&variables[i]);
    /* Both ends exchange until rank 0 has seen traffic on the fabric. */
    until = MPI_Wtime() + 10;
    for (int on = 1; on;) {
        exchange(rank, buffer, 100);
        read_all(1);
        on = rank == 0 && MPI_Wtime() < until && variables[2].after[1] == 0;
        MPI_Bcast(&on, 1, MPI_INT, 0, MPI_COMM_WORLD);
    }
    read_all(0);
    if (argc > 1)
        write_verbose(argv[1]);
    for (int i = 0; i < ROUNDS; i++)
        exchange(rank, buffer, BYTES);
    read_all(1);
    if (rank == 0) {
        printf("drain_limit %u\n", read_control("btl_ninja_drain_limit"));
        for (size_t i = 0; i < VARIABLES; i++) {
            printf("%s", variables[i].name);
            for (int j = 0; j < variables[i].count; j++)
                printf(" %lu", variables[i].after[j]);
            printf("\n");
        }
        if (sum("bytes_sent", 1) - sum("bytes_sent", 0) < (unsigned long)ROUNDS * BYTES ||
            sum("bytes_received", 1) - sum("bytes_received", 0) < (unsigned long)ROUNDS * BYTES)
            fail("the traffic is not all counted", "bytes");
        if (sum("messages_sent", 1) - sum("messages_sent", 0) < ROUNDS ||
            sum("messages_received", 1) - sum("messages_received", 0) < ROUNDS)
            fail("the traffic is not all counted", "messages");
        if (variables[2].after[1] == 0)
            fail("the fabric was never used", "bytes_sent");
    }
    if (argc <= 1)
        check_tuning(rank);
    for (size_t i = 0; i < VARIABLES; i++)
        MPI_T_pvar_handle_free(session, &variables[i].handle);
    MPI_T_pvar_session_free(&session);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_T_finalize();
    MPI_Finalize();
    return 0;
}
