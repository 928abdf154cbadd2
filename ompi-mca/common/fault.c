/*
 * Fault injection.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "fault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "lifeline.h"

int ninja_fault_parse(struct ninja_fault *fault, const char *text, char *why, size_t why_size)
{
    char *end;

    memset(fault, 0, sizeof(*fault));
    fault->state = 1;
    while (text != NULL && *text != '\0') {
        const char *equals = strchr(text, '=');
        unsigned long value = equals != NULL ? strtoul(equals + 1, &end, 10) : 0;

        if (equals == NULL || end == equals + 1 || (*end != ',' && *end != '\0') ||
            (strncmp(text, "reset=", 6) != 0 && strncmp(text, "seed=", 5) != 0)) {
            snprintf(why, why_size, "fault '%s' is not understood: write reset=FRAMES,seed=NUMBER",
                     text);
            return -EINVAL;
        }
        if (text[0] == 'r')
            fault->reset = (unsigned)value;
        else
            fault->state = value + 1;
        text = *end == ',' ? end + 1 : end;
    }
    return 0;
}

/* xorshift64*: good enough to choose frames. */
static uint64_t next_random(struct ninja_fault *fault)
{
    fault->state ^= fault->state >> 12;
    fault->state ^= fault->state << 25;
    fault->state ^= fault->state >> 27;
    return fault->state * UINT64_C(0x2545f4914f6cdd1d);
}

void ninja_fault_pass(struct ninja_core *core, int frames)
{
    struct ninja_link *link = core->links;

    if (core->link_count == 0 || next_random(&core->fault) % core->fault.reset >= (uint64_t)frames)
        return;
    for (uint64_t skip = next_random(&core->fault) % core->link_count; skip > 0; skip--)
        link = link->next;
    ninja_lifeline_reset(link);
}
