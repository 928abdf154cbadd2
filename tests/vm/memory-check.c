/*
 * Fills memory with numbered pages and verifies every one again and again: a copy that corrupts or
 * forgets a page cannot hide.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * usage: memory-check MEGABYTES PAUSE-US
 *
 * Writes a line for each pass over all pages, "pass N errors E", until SIGTERM; exit code 1 if any
 * page was wrong. Each page holds its number and the pass in which it was written, in every word,
 * so that an old copy of a page is as wrong as a damaged one. PAUSE-US after each megabyte leaves
 * processor time to others.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_BYTES 4096U
#define PAGE_WORDS (PAGE_BYTES / sizeof(uint64_t))
#define MEGABYTE   (1024U * 1024U)

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

static uint64_t word_of(uint64_t page, uint64_t pass, uint64_t word)
{
    return (page * UINT64_C(0x9e3779b97f4a7c15)) ^ (pass << 20) ^ word;
}

static void fill(uint64_t *memory, uint64_t page, uint64_t pass)
{
    for (uint64_t i = 0; i < PAGE_WORDS; i++)
        memory[page * PAGE_WORDS + i] = word_of(page, pass, i);
}

/* Whether the page is as it was written in `pass`. */
static int is_right(const uint64_t *memory, uint64_t page, uint64_t pass)
{
    for (uint64_t i = 0; i < PAGE_WORDS; i++)
        if (memory[page * PAGE_WORDS + i] != word_of(page, pass, i))
            return 0;
    return 1;
}

int main(int argc, char **argv)
{
    uint64_t pages, errors = 0, pass = 0;
    useconds_t pause_us;
    uint64_t *memory;

    if (argc != 3) {
        fprintf(stderr, "usage: memory-check MEGABYTES PAUSE-US\n");
        return 2;
    }
    pages = strtoull(argv[1], NULL, 10) * (MEGABYTE / PAGE_BYTES);
    pause_us = (useconds_t)strtoul(argv[2], NULL, 10);
    memory = mmap(NULL, pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("memory-check: mmap");
        return 2;
    }
    signal(SIGTERM, on_signal);
    for (uint64_t page = 0; page < pages; page++)
        fill(memory, page, 0);
    while (!stop) {
        for (uint64_t page = 0; page < pages && !stop; page++) {
            if (!is_right(memory, page, pass)) {
                if (errors++ < 10)
                    printf("page %lu is wrong in pass %lu\n", (unsigned long)page,
                           (unsigned long)pass);
            }
            fill(memory, page, pass + 1);
            if (pause_us > 0 && page % (MEGABYTE / PAGE_BYTES) == 0)
                usleep(pause_us);
        }
        if (stop)
            break;
        pass++;
        printf("pass %lu errors %lu\n", (unsigned long)pass, (unsigned long)errors);
        fflush(stdout);
    }
    printf("%lu pages, %lu passes, %lu errors\n", (unsigned long)pages, (unsigned long)pass,
           (unsigned long)errors);
    return errors > 0;
}
