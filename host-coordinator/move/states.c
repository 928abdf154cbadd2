/* The state table of a move. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <string.h>

#include "states.h"

/* UNDOING leads back through ATTACHING or RESUMING at the source as far as the move had come; DONE
 * becomes FAILED for a move that was undone. A step that fails after the point of no return, or
 * while the source gets its HCA back, leads to DEGRADED, which tries it again. */
const struct move_row move_table[MOVE_STATES] = {
    /* name, doing, phase, limit, abort, committed, {ok, skip, error} */
    [MOVE_PLANNED] =
        {"PLANNED", "checks", PHASE_NONE, 60, 1, 0, {MOVE_RELEASING, MOVE_DONE, MOVE_FAILED}},
    [MOVE_RELEASING] = {"RELEASING",
                        "the ranks move to the lifeline",
                        PHASE_RELEASE,
                        15,
                        1,
                        0,
                        {MOVE_DETACHING, MOVE_PREPARING, MOVE_UNDOING}},
    [MOVE_DETACHING] = {"DETACHING",
                        "the HCA leaves the VM",
                        PHASE_DETACH,
                        40,
                        1,
                        0,
                        {MOVE_PREPARING, MOVE_PREPARING, MOVE_UNDOING}},
    [MOVE_PREPARING] = {"PREPARING",
                        "disk and overlay at the destination",
                        PHASE_NONE,
                        60,
                        1,
                        0,
                        {MOVE_COPYING, MOVE_COPYING, MOVE_UNDOING}},
    [MOVE_COPYING] = {"COPYING",
                      "disk and memory",
                      PHASE_NONE,
                      1800,
                      1,
                      0,
                      {MOVE_SWITCHING, MOVE_SWITCHING, MOVE_UNDOING}},
    [MOVE_SWITCHING] = {"SWITCHING",
                        "the VM runs at the destination; the source ends its copy",
                        PHASE_NONE,
                        90,
                        0,
                        1,
                        {MOVE_FINALISING, MOVE_FINALISING, MOVE_DEGRADED}},
    [MOVE_FINALISING] = {"FINALISING",
                         "sign of life, clock, overlay",
                         PHASE_NONE,
                         60,
                         0,
                         1,
                         {MOVE_ATTACHING, MOVE_ATTACHING, MOVE_DEGRADED}},
    [MOVE_ATTACHING] = {"ATTACHING",
                        "an HCA enters the VM",
                        PHASE_ATTACH,
                        600,
                        0,
                        1,
                        {MOVE_LINK_UP, MOVE_DONE, MOVE_DEGRADED}},
    [MOVE_LINK_UP] = {"LINK_UP",
                      "the HCA's port becomes ACTIVE",
                      PHASE_LINK_UP,
                      120,
                      0,
                      1,
                      {MOVE_RESUMING, MOVE_RESUMING, MOVE_DEGRADED}},
    [MOVE_RESUMING] = {"RESUMING",
                       "the ranks move to the fabric",
                       PHASE_RESUME,
                       140,
                       0,
                       1,
                       {MOVE_DONE, MOVE_DONE, MOVE_DEGRADED}},
    [MOVE_DEGRADED] = {"DEGRADED",
                       "something is missing; tried again",
                       PHASE_NONE,
                       0,
                       0,
                       1,
                       {MOVE_DONE, MOVE_DONE, MOVE_DEGRADED}},
    [MOVE_UNDOING] = {"UNDOING",
                      "the source keeps the VM",
                      PHASE_NONE,
                      120,
                      0,
                      0,
                      {MOVE_ATTACHING, MOVE_DONE, MOVE_DEGRADED}},
    [MOVE_DONE] = {"DONE", "", PHASE_NONE, 0, 0, 1, {MOVE_DONE, MOVE_DONE, MOVE_DONE}},
    [MOVE_FAILED] = {"FAILED", "", PHASE_NONE, 0, 0, 0, {MOVE_FAILED, MOVE_FAILED, MOVE_FAILED}},
};

const char *const move_phase_names[MOVE_PHASES] = {"release",  "detach", "storage", "memory",
                                                   "downtime", "attach", "link_up", "resume"};

enum move_state move_state_named(const char *name)
{
    for (int i = 0; i < MOVE_STATES; i++)
        if (!strcmp(move_table[i].name, name))
            return (enum move_state)i;
    return MOVE_STATES;
}
