/*
 * What the parts of hook/symvirt share.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef HOOK_SYMVIRT_H
#define HOOK_SYMVIRT_H

/*
 * Sets the parameters of `mpirun --am ninja`, as far as the user does not set them otherwise, where
 * Open MPI itself fails to. Before the frameworks that they are for are opened.
 */
void hook_parameters_read(void);

/*
 * If the user selected crs/symvirt: opens the framework, which stock Open MPI leaves closed, and
 * sends every release through its checkpoint entry, in a thread of its own. At the end of MPI_Init;
 * says in one line why not if it cannot.
 */
void hook_checkpoint_start(void);

/* Ends the thread and closes the framework, if that was done. At the beginning of MPI_Finalize. */
void hook_checkpoint_stop(void);

#endif
