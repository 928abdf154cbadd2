/* One message of more than 2 GiB, every byte of it checked.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "mpi-check.h"

#include <stdlib.h>

#define PIECE  ((size_t)1 << 20)
#define PIECES ((size_t)2049)
#define REST   ((size_t)12345)

/* Rank 0 sends to rank 1; the count fits into an int only in pieces. */
static void message_run(MPI_Datatype type, uint64_t serial)
{
    size_t size = PIECES * PIECE + REST;
    unsigned char *data = check_buffer(size);
    MPI_Status status;

    if (check.rank == 0) {
        check_fill(data, size, check_sequence(serial, 1));
        MPI_Send(data, 1, type, 1, 1, MPI_COMM_WORLD);
    } else {
        MPI_Recv(data, 1, type, 0, 1, MPI_COMM_WORLD, &status);
        check_status(&status, 0, 1, size, "large message");
        check_verify(data, size, check_sequence(serial, 1), "large message");
        check_untouched(data, size, size, "large message");
    }
    free(data);
}

int main(int argc, char **argv)
{
    int lengths[] = {1, (int)REST};
    MPI_Aint places[] = {0, (MPI_Aint)(PIECES * PIECE)};
    MPI_Datatype piece, type, types[] = {MPI_DATATYPE_NULL, MPI_BYTE};
    uint64_t serial = 0;

    check_start(argc, argv, MPI_THREAD_SINGLE);
    CHECK(check.ranks == 2, "two ranks are needed");
    MPI_Type_contiguous((int)PIECE, MPI_BYTE, &piece);
    MPI_Type_contiguous((int)PIECES, piece, &types[0]);
    MPI_Type_free(&piece);
    MPI_Type_create_struct(2, lengths, places, types, &type);
    MPI_Type_commit(&type);
    while (check_continue())
        message_run(type, ++serial);
    MPI_Type_free(&types[0]);
    MPI_Type_free(&type);
    return check_finish();
}
