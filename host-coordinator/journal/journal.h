/* The journal: every change of a move's state, written before the action that it announces.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * SQLite, one file. A plan is an ordered set of moves; a move's record is a JSON object (its
 * members are described in docs/moves.md). All functions log what SQLite says when they fail.
 * Loop's thread only.
 */
#ifndef JOURNAL_H
#define JOURNAL_H

#include <stdint.h>
#include <jansson.h>

struct journal;

/* Opens or makes the journal in file 'path'. Returns 0, -EIO, or -EBUSY if another daemon has it.
 */
int journal_open(struct journal **journal, const char *path);

void journal_close(struct journal *journal);

/* A new plan: to move 'what' (a cluster or VM) to 'destination', 'parallel' moves at a time.
 * Returns its number, or -EIO. */
int64_t journal_plan_add(struct journal *journal, const char *what, const char *destination,
                         unsigned parallel, double at);

/* The plan as {"id", "what", "to", "parallel", "created"} (new reference), or NULL. */
json_t *journal_plan(struct journal *journal, int64_t plan);

/* A new move of 'plan' in state 'state'. Returns its number, or -EIO. */
int64_t journal_move_add(struct journal *journal, int64_t plan, const char *vm, const char *state,
                         json_t *record, double at);

/* The move enters 'state'; 'why' is a sentence. 'record' replaces the old one; 'ended' tells that
 * the move is closed. On disk when this returns. */
int journal_move_enter(struct journal *journal, int64_t move, const char *state, const char *why,
                       json_t *record, int ended, double at);

/* Replaces the move's record; its state stays. */
int journal_move_update(struct journal *journal, int64_t move, json_t *record);

/* Moves as an array of {"id", "plan", "vm", "state", "ended", "record": {...}} (new reference),
 * oldest first: those not ended, or the last 'limit' (0: all). NULL on failure. */
json_t *journal_moves(struct journal *journal, int open_only, unsigned limit);

/* One move, as above, or NULL. */
json_t *journal_move(struct journal *journal, int64_t move);

/* What the move went through: an array of {"at", "state", "why"} (new reference), or NULL. */
json_t *journal_transitions(struct journal *journal, int64_t move);

/* Counts and returns the attachments of a device of 'fabric' to 'vm'; 'add' is 1 for a new one,
 * else 0. The first is 1. Returns 0 on failure. */
uint64_t journal_epoch(struct journal *journal, const char *vm, const char *fabric, unsigned add);

#endif
