/*
 * The core's clock, and the lines that it writes for the user.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core.h"

uint64_t ninja_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t ninja_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void ninja_log(const struct ninja_core *core, int level, const char *format, ...)
{
    char line[512];
    va_list arguments;
    int size;

    if (level > core->config.tuning->verbose)
        return;
    size = snprintf(line, sizeof(line), "[%d] ninja %s %" PRIu64 ": ", (int)getpid(),
                    core->rank_name, ninja_now_ms());
    va_start(arguments, format);
    vsnprintf(line + size, sizeof(line) - (size_t)size - 1, format, arguments);
    va_end(arguments);
    strcat(line, "\n");
    /* In one piece, so that lines of ranks do not mix. */
    (void)!write(STDERR_FILENO, line, strlen(line));
}
