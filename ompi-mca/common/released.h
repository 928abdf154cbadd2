/*
 * Memory that the process gives back to the kernel: noted by the hooks of UCX's libucm, taken by
 * who keeps it registered with a device.
 *
 * A device goes on with the pages that it was given at the registration. If the process unmaps them
 * and maps others at the same address, what is sent from there is old, and what is received is
 * lost. So registrations can outlive a message only if somebody tells of unmapping. Nobody tells of
 * pages that go while their mapping stays: those of a file that is cut off or punched.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_RELEASED_H
#define NINJA_RELEASED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Has everything noted from now on, until ninja_released_end() was called as often as this.
 * Changes the code of munmap() and its like, so it is called while no other thread runs them.
 * Returns 0 or -ENOTSUP.
 */
int ninja_released_begin(void);
void ninja_released_end(void);

/*
 * The `length` bytes at `start` are about to be unmapped, or to get other pages. Any thread at any
 * time: inside of free() and in the child of a fork, too; takes no lock and no memory.
 */
void ninja_released_note(const void *start, size_t length);

/* The same of all memory. */
void ninja_released_note_all(void);

/*
 * Whether notes still come: maps and unmaps a page to see. Another library that wants to know of
 * unmapping may have put its hooks in the place of those that call us.
 */
bool ninja_released_works(void);

/*
 * Calls `forget` for each piece of memory that was noted since the last time: from `start` up to
 * but not including `end`; everything is 0 up to UINTPTR_MAX. Costs a load if there is nothing. One
 * thread at a time.
 */
void ninja_released_take(void (*forget)(void *context, uintptr_t start, uintptr_t end),
                         void *context);

#endif
