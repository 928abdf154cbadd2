/* Where the agent finds the system's directories: elsewhere in tests.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef AGENT_ROOTS_H
#define AGENT_ROOTS_H

#include <stddef.h>

struct roots {
    const char *dev;  /* "/dev" */
    const char *sys;  /* "/sys" */
    const char *proc; /* "/proc" */
    const char *run;  /* "/run/symvirt": our own files */
};

/* Reads the first line of a small file, without the newline. Returns 0 if that fails. The path is
 * printf-like. */
int file_read_line(char *line, size_t size, const char *path_format, ...)
    __attribute__((format(printf, 3, 4)));

/* Writes a line to the log (standard error), with the program's name before it. */
void agent_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
