/* Small files of the system, and the log.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "roots.h"

int file_read_line(char *line, size_t size, const char *path_format, ...)
{
    char path[512];
    va_list arguments;
    ssize_t n;
    int fd, length;

    va_start(arguments, path_format);
    length = vsnprintf(path, sizeof(path), path_format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof(path))
        return 0;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = read(fd, line, size - 1);
    close(fd);
    if (n < 0)
        return 0;
    line[n] = '\0';
    line[strcspn(line, "\n")] = '\0';
    return 1;
}

void agent_log(const char *format, ...)
{
    char when[32];
    time_t now = time(NULL);
    struct tm broken_down;
    va_list arguments;

    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", localtime_r(&now, &broken_down));
    fprintf(stderr, "%s symvirt-agentd: ", when);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}
