/*
 * Turns: several jobs on the same machines do one piece of work each, by turns, and sleep while it
 * is another's.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_TURNS_H
#define NINJA_TURNS_H

#include <stdbool.h>
#include <stdint.h>

struct turns {
    uint32_t *now; /* the turn that runs, shared by all processes of all jobs; NULL: we are alone */
    uint32_t job;  /* our number */
    uint32_t jobs;
    uint32_t step; /* pieces of work that are behind us */
    uint32_t ours; /* our last turn */
};

/*
 * Takes part, as job number `job` of `jobs`, in the turns that the file `path` of 4 zero bytes
 * stands for. Each process of a job calls this. Processes on another machine have such a file of
 * their own there: all of these count alike. NULL: there is no other job. Returns 0 or -1 with
 * errno.
 */
int turns_open(struct turns *turns, const char *path, int job, int jobs);

/* Waits until it is our turn: the first job of one step is the second of the next, and so on.
 * Returns false if nothing moves for two minutes. */
bool turns_begin(struct turns *turns);

/* The piece of work is done, in all processes of our job; each of them calls this, and the next job
 * goes on with the first. */
void turns_end(struct turns *turns);

void turns_close(struct turns *turns);

#endif
