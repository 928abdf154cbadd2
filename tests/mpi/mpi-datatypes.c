/* Derived datatypes: what is in the type map arrives, in its order, and nothing between is touched.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "mpi-check.h"

#include <stdlib.h>
#include <string.h>

#define BLOCKS_MAX 64
#define TYPES      12
#define BYTES_MAX  ((size_t)3 << 20)
#define GAP        0xa5

/* A datatype, and what it should mean: blocks of bytes in one element of so large an extent. */
struct layout {
    const char *name;
    MPI_Datatype type;
    size_t count; /* blocks */
    size_t at[BLOCKS_MAX], length[BLOCKS_MAX];
    size_t size, extent; /* bytes of data, and from one element to the next */
};

static void layout_add(struct layout *layout, size_t at, size_t length)
{
    CHECK(layout->count < BLOCKS_MAX, "%s has too many blocks", layout->name);
    layout->at[layout->count] = at;
    layout->length[layout->count++] = length;
    layout->size += length;
}

static void layout_vector(struct layout *layout, uint64_t *sequence, bool bytes)
{
    int i, count = 2 + (int)(check_draw(sequence) % 20),
           length = 1 + (int)(check_draw(sequence) % 30);
    int stride = length + (int)(check_draw(sequence) % 10);
    size_t unit = bytes ? 1 : sizeof(int);

    layout->name = bytes ? "hvector" : "vector";
    if (bytes)
        MPI_Type_create_hvector(count, length, stride, MPI_BYTE, &layout->type);
    else
        MPI_Type_vector(count, length, stride, MPI_INT, &layout->type);
    for (i = 0; i < count; i++)
        layout_add(layout, (size_t)(i * stride) * unit, (size_t)length * unit);
    layout->extent = (size_t)((count - 1) * stride + length) * unit;
}

/* Blocks in another order than that of memory. */
static void layout_indexed(struct layout *layout, uint64_t *sequence, int how)
{
    enum { COUNT = 16, SLOT = 40 };
    int i, lengths[COUNT], places[COUNT], turn = (int)(check_draw(sequence) % COUNT);
    MPI_Aint displacements[COUNT];

    for (i = 0; i < COUNT; i++) {
        lengths[i] = how == 1 ? 13 : 1 + (int)(check_draw(sequence) % SLOT);
        places[i] = (i * 5 + turn) % COUNT * SLOT;
        displacements[i] = places[i];
        layout_add(layout, (size_t)places[i], (size_t)lengths[i]);
    }
    if (how == 0)
        MPI_Type_indexed(COUNT, lengths, places, MPI_BYTE, &layout->type);
    else if (how == 1)
        MPI_Type_create_indexed_block(COUNT, 13, places, MPI_BYTE, &layout->type);
    else
        MPI_Type_create_hindexed(COUNT, lengths, displacements, MPI_BYTE, &layout->type);
    layout->name = how == 0 ? "indexed" : how == 1 ? "indexed_block" : "hindexed";
}

/* A structure of different types with holes between them. */
static void layout_struct(struct layout *layout)
{
    struct record {
        char letters[3];
        double numbers[5];
        short small;
        long long large[2];
        char last;
    };
    int lengths[] = {3, 5, 1, 2, 1};
    MPI_Aint places[] = {offsetof(struct record, letters), offsetof(struct record, numbers),
                         offsetof(struct record, small), offsetof(struct record, large),
                         offsetof(struct record, last)};
    MPI_Datatype types[] = {MPI_CHAR, MPI_DOUBLE, MPI_SHORT, MPI_LONG_LONG, MPI_CHAR}, plain;
    size_t sizes[] = {3, 5 * sizeof(double), sizeof(short), 2 * sizeof(long long), 1};
    int i;

    layout->name = "struct";
    MPI_Type_create_struct(5, lengths, places, types, &plain);
    MPI_Type_create_resized(plain, 0, sizeof(struct record), &layout->type);
    MPI_Type_free(&plain);
    for (i = 0; i < 5; i++)
        layout_add(layout, (size_t)places[i], sizes[i]);
    layout->extent = sizeof(struct record);
}

/* A block inside of a three-dimensional array. */
static void layout_subarray(struct layout *layout, uint64_t *sequence)
{
    int sizes[] = {7, 9, 40}, inner[] = {5, 6, 1 + (int)(check_draw(sequence) % 39)};
    int starts[] = {1, 2, (int)(check_draw(sequence) % (unsigned)(40 - inner[2]))};
    int i, j;

    layout->name = "subarray";
    MPI_Type_create_subarray(3, sizes, inner, starts, MPI_ORDER_C, MPI_BYTE, &layout->type);
    for (i = 0; i < inner[0]; i++)
        for (j = 0; j < inner[1]; j++)
            layout_add(layout, (size_t)(((starts[0] + i) * 9 + starts[1] + j) * 40 + starts[2]),
                       (size_t)inner[2]);
    layout->extent = 7 * 9 * 40;
}

/* Contiguous blocks with room behind each, from small ones to such as are larger than a frame. */
static void layout_blocks(struct layout *layout, size_t block, size_t room, const char *name)
{
    MPI_Datatype plain;

    layout->name = name;
    MPI_Type_contiguous((int)block, MPI_BYTE, &plain);
    MPI_Type_create_resized(plain, 0, (MPI_Aint)(block + room), &layout->type);
    MPI_Type_free(&plain);
    layout_add(layout, 0, block);
    layout->extent = block + room;
}

/* A vector of vectors: every other row, every third column. */
static void layout_nested(struct layout *layout)
{
    MPI_Datatype row;
    int i, j;

    layout->name = "nested vectors";
    MPI_Type_vector(6, 1, 3, MPI_SHORT, &row);
    MPI_Type_create_hvector(8, 1, 80, row, &layout->type);
    MPI_Type_free(&row);
    for (i = 0; i < 8; i++)
        for (j = 0; j < 6; j++)
            layout_add(layout, (size_t)(i * 80 + j * 6), 2);
    layout->extent = 7 * 80 + 5 * 6 + 2;
}

static void layout_make(struct layout *layout, int kind, uint64_t *sequence)
{
    MPI_Aint low, extent;
    MPI_Datatype plain;
    int size;

    memset(layout, 0, sizeof *layout);
    switch (kind) {
    case 0:
        layout_blocks(layout, 64, 0, "contiguous");
        break;
    case 1:
    case 2:
        layout_vector(layout, sequence, kind == 2);
        break;
    case 3:
    case 4:
    case 5:
        layout_indexed(layout, sequence, kind - 3);
        break;
    case 6:
        layout_struct(layout);
        break;
    case 7:
        layout_subarray(layout, sequence);
        break;
    case 8:
        layout_blocks(layout, 1 + check_draw(sequence) % 100, 7, "resized");
        break;
    case 9:
        layout_blocks(layout, 200000, 4096, "resized, large");
        break;
    case 10:
        layout_nested(layout);
        break;
    default: /* a duplicate of one of the others */
        layout_vector(layout, sequence, false);
        plain = layout->type;
        MPI_Type_dup(plain, &layout->type);
        MPI_Type_free(&plain);
        layout->name = "duplicate of a vector";
    }
    MPI_Type_commit(&layout->type);
    MPI_Type_size(layout->type, &size);
    MPI_Type_get_extent(layout->type, &low, &extent);
    if (layout->extent == 0)
        layout->extent = (size_t)extent;
    CHECK((size_t)size == layout->size && (size_t)extent == layout->extent && low == 0,
          "%s: size %d, extent %ld", layout->name, size, (long)extent);
}

/* Copies between 'packed' and the blocks of 'count' elements. */
static void layout_copy(const struct layout *layout, size_t count, unsigned char *elements,
                        unsigned char *packed, bool out)
{
    size_t i, block;

    for (i = 0; i < count; i++)
        for (block = 0; block < layout->count; block++) {
            unsigned char *at = elements + i * layout->extent + layout->at[block];

            if (out)
                memcpy(at, packed, layout->length[block]);
            else
                memcpy(packed, at, layout->length[block]);
            packed += layout->length[block];
        }
}

/* Verifies the data in 'elements', then that nothing else was written there. */
static void layout_verify(const struct layout *layout, size_t count, unsigned char *elements,
                          size_t data, uint64_t key)
{
    unsigned char *packed = check_buffer(count * layout->size),
                  *poison = check_buffer(count * layout->size);

    layout_copy(layout, count, elements, packed, false);
    check_verify(packed, data, key, layout->name);
    layout_copy(layout, count, elements, poison, true);
    check_untouched(elements, 0, count * layout->extent, layout->name);
    free(packed);
    free(poison);
}

/* Each rank sends elements of one type, and the next receives them as elements of another, or as
 * bytes. */
static void exchange(struct layout *out, struct layout *in, uint64_t *sequence, uint64_t serial)
{
    int to = (check.rank + 1) % check.ranks, from = (check.rank + check.ranks - 1) % check.ranks;
    size_t bytes = 1 + check_draw_size(sequence, BYTES_MAX), count = 1 + bytes / out->size;
    size_t data = count * out->size, room;
    unsigned char *send, *receive, *packed = check_buffer(data);
    MPI_Request requests[2];
    MPI_Status status[2];
    MPI_Count got;

    /* As many elements as hold all of it; the last may stay unfinished. */
    room = (data + in->size - 1) / in->size;
    send = check_buffer(count * out->extent);
    receive = check_buffer(room * in->extent);
    check_fill(packed, data, check_sequence(serial, (unsigned)check.rank));
    layout_copy(out, count, send, packed, true);
    MPI_Irecv(receive, (int)room, in->type, from, 1, MPI_COMM_WORLD, &requests[0]);
    (serial % 2 ? MPI_Isend : MPI_Issend)(send, (int)count, out->type, to, 1, MPI_COMM_WORLD,
                                          &requests[1]);
    MPI_Waitall(2, requests, status);
    MPI_Get_elements_x(&status[0], MPI_BYTE, &got);
    CHECK((size_t)got == data, "%s as %s: %lld bytes, not %zu", out->name, in->name, (long long)got,
          data);
    layout_verify(in, room, receive, data, check_sequence(serial, (unsigned)from));
    free(packed);
    free(send);
    free(receive);
}

/* Packed by MPI_Pack() at one end and unpacked at the other. */
static void pack_run(struct layout *layout, uint64_t serial)
{
    int to = (check.rank + 1) % check.ranks, from = (check.rank + check.ranks - 1) % check.ranks;
    size_t count = 1 + 100000 / layout->size, data = count * layout->size;
    unsigned char *elements = check_buffer(count * layout->extent), *packed = check_buffer(data);
    unsigned char *other = check_buffer(count * layout->extent), *got;
    int size, position = 0;

    check_fill(packed, data, check_sequence(serial, (unsigned)check.rank));
    layout_copy(layout, count, elements, packed, true);
    MPI_Pack_size((int)count, layout->type, MPI_COMM_WORLD, &size);
    packed = realloc(packed, (size_t)size);
    got = check_buffer((size_t)size);
    CHECK(packed != NULL, "no memory");
    MPI_Pack(elements, (int)count, layout->type, packed, size, &position, MPI_COMM_WORLD);
    MPI_Sendrecv(packed, position, MPI_PACKED, to, 2, got, size, MPI_PACKED, from, 2,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    position = 0;
    MPI_Unpack(got, size, &position, other, (int)count, layout->type, MPI_COMM_WORLD);
    layout_verify(layout, count, other, data, check_sequence(serial, (unsigned)from));
    free(elements);
    free(packed);
    free(other);
    free(got);
}

int main(int argc, char **argv)
{
    struct layout layouts[TYPES];
    uint64_t sequence, serial = 0;
    int i;

    check_start(argc, argv, MPI_THREAD_SINGLE);
    sequence = check_sequence(0, 0);
    while (check_continue()) {
        for (i = 0; i < TYPES; i++)
            layout_make(&layouts[i], i, &sequence);
        for (i = 0; i < TYPES; i++) {
            exchange(&layouts[i], &layouts[i], &sequence, ++serial);
            exchange(&layouts[i], &layouts[check_draw(&sequence) % TYPES], &sequence, ++serial);
            pack_run(&layouts[i], ++serial);
        }
        for (i = 0; i < TYPES; i++)
            MPI_Type_free(&layouts[i].type);
    }
    return check_finish();
}
