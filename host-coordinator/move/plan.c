/* Plans: which moves of a cluster run at the same time, and when all have ended.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <stdlib.h>

#include "move.h"

struct plan *plan_create(struct coordinator *coordinator, int64_t id, unsigned parallel)
{
    struct plan *plan = calloc(1, sizeof(*plan));

    if (!plan)
        return NULL;
    plan->id = id;
    plan->parallel = parallel ? parallel : 1;
    plan->next = coordinator->plans;
    coordinator->plans = plan;
    return plan;
}

/* What matters of a plan's moves. */
struct tally {
    unsigned running, waiting, failed, degraded;
    struct move *first_waiting;
};

static struct tally tally_of(const struct coordinator *coordinator, const struct plan *plan)
{
    struct tally tally = {0};

    for (struct move *move = coordinator->moves; move; move = move->next) {
        if (move->plan != plan->id)
            continue;
        if (move->failure[0])
            tally.failed++;
        if (move->ended)
            continue;
        if (move->state == MOVE_DEGRADED) {
            tally.degraded++;
        } else if (move->state == MOVE_PLANNED && !move->started) {
            tally.waiting++;
            if (!tally.first_waiting)
                tally.first_waiting = move;
        } else if (!move->retries) {
            /* One that is tried again does not hold the others up. */
            tally.running++;
        } else {
            tally.degraded++;
        }
    }
    return tally;
}

static void plan_advance_one(struct coordinator *coordinator, struct plan *plan)
{
    struct tally tally = tally_of(coordinator, plan);

    while (tally.waiting && tally.failed) {
        tally.first_waiting->started = 1;
        move_error(tally.first_waiting, "not started, because another move of the plan failed");
        tally = tally_of(coordinator, plan);
    }
    while (tally.waiting && tally.running < plan->parallel) {
        tally.first_waiting->started = 1;
        move_goto(tally.first_waiting, MOVE_PLANNED, "its turn has come");
        tally = tally_of(coordinator, plan);
    }
    if (!tally.waiting && !tally.running && !plan->told_end) {
        plan->told_end = 1;
        coordinator->tell(coordinator, plan->id,
                          json_pack("{s:s, s:I, s:b, s:b}", "event", "end", "plan",
                                    (json_int_t)plan->id, "ok", !tally.failed && !tally.degraded,
                                    "degraded", tally.degraded > 0));
    }
}

/* Moves that have ended are kept until their plan has, for its sum. */
static int can_free(const struct coordinator *coordinator, const struct move *move)
{
    const struct plan *plan = coordinator->plans;

    while (plan && plan->id != move->plan)
        plan = plan->next;
    return move->ended && !move->jobs && (!plan || plan->told_end);
}

void plan_advance(struct coordinator *coordinator)
{
    static int inside;

    /* Ends of moves come back here; the loops below see them anyway. */
    if (inside)
        return;
    inside = 1;
    for (struct plan *plan = coordinator->plans; plan; plan = plan->next)
        if (!plan->told_end)
            plan_advance_one(coordinator, plan);
    inside = 0;
}

void plan_reap(struct coordinator *coordinator)
{
    struct move **at = &coordinator->moves;

    while (*at) {
        struct move *move = *at;

        if (!can_free(coordinator, move)) {
            at = &move->next;
            continue;
        }
        *at = move->next;
        free(move);
    }
}
