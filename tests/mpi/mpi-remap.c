/* Messages from and to memory that gets other pages in between, every byte of them checked.
 *
 * A transport that keeps memory registered with a device must notice: else old pages are sent, and
 * what is received is lost.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "mpi-check.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Each third is whole pages. */
#define AREA  ((size_t)3 << 20)
#define LEAST ((size_t)200 << 10) /* more than a transport sends without asking */

static unsigned char *area;

/* --- What happens to the memory ------------------------------------------------------------- */

/* Another thread of the process may take the place of what was unmapped. */
static void unmap_all(void)
{
    CHECK(munmap(area, AREA) == 0, "munmap: %s", strerror(errno));
    area = mmap(area, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED, "mmap: %s", strerror(errno));
}

static void replace_a_part(void)
{
    unsigned char *part = area + AREA / 3;

    CHECK(mmap(part, AREA / 3, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
               0) == part,
          "mmap: %s", strerror(errno));
}

static void drop_contents(void)
{
    CHECK(madvise(area, AREA, MADV_DONTNEED) == 0, "madvise: %s", strerror(errno));
}

/* Its pages live on at another place, unless there is room where they are. */
static void grow_and_shrink(void)
{
    unsigned char *larger;

    unmap_all(); /* mremap() takes no memory that was mapped piece by piece */
    memset(area, 0x5b, AREA);
    larger = mremap(area, AREA, 2 * AREA, MREMAP_MAYMOVE);
    CHECK(larger != MAP_FAILED, "mremap: %s", strerror(errno));
    CHECK(mremap(larger, 2 * AREA, AREA, 0) == larger, "mremap: %s", strerror(errno));
    area = larger;
}

/* Which of the two gets copies of the pages that are written next is the kernel's choice. */
static void fork_child(void)
{
    pid_t child = fork();

    CHECK(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) {
        usleep(20000);
        _exit(0);
    }
    memset(area, 0x5a, AREA);
    CHECK(waitpid(child, NULL, 0) == child, "waitpid: %s", strerror(errno));
}

static void do_nothing(void)
{
}

static const struct {
    const char *name;
    void (*act)(void);
} changes[] = {
    {"nothing", do_nothing},    {"munmap", unmap_all},       {"mmap of a part", replace_a_part},
    {"madvise", drop_contents}, {"mremap", grow_and_shrink}, {"fork", fork_child},
};

/* --- Messages ------------------------------------------------------------------------------- */

static void message(unsigned char *at, size_t size, int from, uint64_t key, const char *what)
{
    MPI_Status status;

    if (check.rank == from) {
        check_fill(at, size, key);
        MPI_Send(at, (int)size, MPI_BYTE, 1 - from, 1, MPI_COMM_WORLD);
    } else {
        MPI_Recv(at, (int)size, MPI_BYTE, from, 1, MPI_COMM_WORLD, &status);
        check_status(&status, from, 1, size, what);
        check_verify(at, size, key, what);
    }
}

/* One message each way, from and to places of the area that overlap those of other rounds. */
static void area_round(uint64_t serial)
{
    uint64_t state = check_sequence(serial, 1);
    unsigned change = (unsigned)(serial % CHECK_LENGTH(changes));
    int from;

    changes[change].act();
    for (from = 0; from < 2; from++) {
        size_t size = LEAST + check_draw(&state) % (AREA - LEAST);
        size_t offset = check_draw(&state) % (AREA - size + 1);

        message(area + offset, size, from, check_draw(&state), changes[change].name);
    }
}

/* The same in memory of malloc(), which unmaps what is freed, or gives the end of the heap back. */
static void heap_round(uint64_t serial)
{
    uint64_t state = check_sequence(serial, 2);
    int from;

    for (from = 0; from < 2; from++) {
        size_t size = LEAST + check_draw(&state) % AREA;
        unsigned char *data = malloc(size);

        CHECK(data != NULL, "no memory");
        message(data, size, from, check_draw(&state), "heap");
        free(data);
        if (check_draw(&state) % 2)
            malloc_trim(0);
    }
}

int main(int argc, char **argv)
{
    uint64_t serial = 0;

    check_start(argc, argv, MPI_THREAD_SINGLE);
    CHECK(check.ranks == 2, "two ranks are needed");
    area = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED, "mmap: %s", strerror(errno));
    while (check_continue()) {
        area_round(++serial);
        heap_round(serial);
    }
    return check_finish();
}
