/* Log lines and short texts. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "log.h"

void log_line(const char *format, ...)
{
    char text[1024], when[32];
    struct timespec now;
    struct tm parts;
    va_list args;

    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &parts);
    strftime(when, sizeof(when), "%F %T", &parts);
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fprintf(stderr, "%s.%03ld %s\n", when, now.tv_nsec / 1000000, text);
}

void sentence_set(char *text, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(text, SENTENCE_MAX, format, args);
    va_end(args);
}
