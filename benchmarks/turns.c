/*
 * Turns: a counter in a shared file on which processes sleep.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "turns.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_SECONDS 120

int turns_open(struct turns *turns, const char *path, int job, int jobs)
{
    int fd;

    *turns = (struct turns){.job = (uint32_t)job, .jobs = (uint32_t)jobs};
    if (path == NULL)
        return 0;
    if (job < 0 || job >= jobs) {
        errno = EINVAL;
        return -1;
    }
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -1;
    turns->now = mmap(NULL, sizeof(*turns->now), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (turns->now == MAP_FAILED) {
        turns->now = NULL;
        return -1;
    }
    return 0;
}

bool turns_begin(struct turns *turns)
{
    const struct timespec limit = {.tv_sec = LIMIT_SECONDS};
    uint32_t now;

    turns->ours = turns->step * turns->jobs + (turns->job + turns->step) % turns->jobs;
    turns->step++;
    if (turns->now == NULL)
        return true;
    while ((now = __atomic_load_n(turns->now, __ATOMIC_ACQUIRE)) != turns->ours)
        if (syscall(SYS_futex, turns->now, FUTEX_WAIT, now, &limit, NULL, 0) != 0 &&
            errno == ETIMEDOUT)
            return false;
    return true;
}

void turns_end(struct turns *turns)
{
    uint32_t ours = turns->ours;

    /* The first of our processes here passes the turn on. */
    if (turns->now == NULL || !__atomic_compare_exchange_n(turns->now, &ours, ours + 1, false,
                                                           __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        return;
    (void)syscall(SYS_futex, turns->now, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void turns_close(struct turns *turns)
{
    if (turns->now != NULL)
        (void)munmap(turns->now, sizeof(*turns->now));
    turns->now = NULL;
}
