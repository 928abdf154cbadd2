/*
 * Fault injection, asked for by configuration: breaks lifelines at random, reproducibly by seed.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_FAULT_H
#define NINJA_FAULT_H

#include <stddef.h>
#include <stdint.h>

struct ninja_core;

struct ninja_fault {
    unsigned reset; /* lifelines broken for every so many frames moved; 0: none */
    uint64_t state; /* of the random numbers */
};

/*
 * Reads "reset=N,seed=N" into `fault`; NULL or "" is no fault. Returns 0, or -EINVAL with a
 * sentence in `why`.
 */
int ninja_fault_parse(struct ninja_fault *fault, const char *text, char *why, size_t why_size);

/* `frames` have been moved in this pass: perhaps does harm. The gate is held, no callback is
 * running. */
void ninja_fault_pass(struct ninja_core *core, int frames);

#endif
