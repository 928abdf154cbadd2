/* Takes up a move that an earlier coordinator left unfinished. SPDX-License-Identifier:
 * BSD-3-Clause
 *
 * The journal names the state whose action may or may not have been done. Every step but the copy
 * can simply be done again: it looks before it acts. A copy goes on in the source's libvirtd
 * without us, so it is adopted: never started a second time.
 */
#include "config.h"

#include <stdlib.h>

#include "move.h"

static void recover_go(void *arg)
{
    struct move *move = arg;
    enum move_state state = move->state;

    if (state == MOVE_COPYING)
        move->adopted = 1;
    move_goto(move, state, "taken up after a restart of the coordinator");
}

struct move *move_recover(struct coordinator *coordinator, const json_t *row)
{
    struct move *move = calloc(1, sizeof(*move)), **end = &coordinator->moves;
    enum move_state state = move_state_named(json_string_value(json_object_get(row, "state")));

    if (!move)
        return NULL;
    move->coordinator = coordinator;
    move->id = json_integer_value(json_object_get(row, "id"));
    move->plan = json_integer_value(json_object_get(row, "plan"));
    if (state == MOVE_STATES || move_record_read(move, json_object_get(row, "record"))) {
        log_line("move %lld: the journal's record does not fit the inventory; it stays open",
                 (long long)move->id);
        free(move);
        return NULL;
    }
    move->state = state;
    move->entered = loop_now();
    while (*end)
        end = &(*end)->next;
    *end = move;
    log_line("move %lld %s: was %s", (long long)move->id, move->vm->name, move_table[state].name);
    if (state != MOVE_PLANNED || move->started)
        loop_timer_start(&move->again, 0, recover_go, move);
    return move;
}
