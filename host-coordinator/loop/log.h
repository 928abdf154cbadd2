/* Log lines and short texts. SPDX-License-Identifier: BSD-3-Clause */
#ifndef LOG_H
#define LOG_H

/* Room for a sentence that tells a human what happened. */
#define SENTENCE_MAX 400

/* Writes one line with the time to standard error. Any thread. */
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Formats into 'text' (SENTENCE_MAX bytes). Any thread. */
void sentence_set(char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
