/*
 * btl/ninja: performance variables, for tools that read them through MPI_T.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "btl_ninja.h"

#include <stddef.h>

#include "opal/mca/base/mca_base_pvar.h"

/* Where a variable lies in struct ninja_counters, and how many values it has. */
struct variable {
    const char *name;
    const char *help;
    int variable_class;
    size_t offset;
    int count;
};

#define BY_TRANSPORT                                                                               \
    " on each transport: the lifeline first, then the fabrics in the order in which they were "    \
    "named"
#define COUNTER(member) MCA_BASE_PVAR_CLASS_COUNTER, offsetof(struct ninja_counters, member)

static const struct variable variables[] = {
    {"messages_sent", "Messages, or pieces of one, sent" BY_TRANSPORT, COUNTER(messages_sent),
     NINJA_COUNTERS_TRANSPORTS},
    {"messages_received", "Messages, or pieces of one, received" BY_TRANSPORT,
     COUNTER(messages_received), NINJA_COUNTERS_TRANSPORTS},
    {"bytes_sent", "Bytes of payload sent" BY_TRANSPORT, COUNTER(bytes_sent),
     NINJA_COUNTERS_TRANSPORTS},
    {"bytes_received", "Bytes of payload received" BY_TRANSPORT, COUNTER(bytes_received),
     NINJA_COUNTERS_TRANSPORTS},
    {"switches", "How often a link of this rank changed its transport", COUNTER(switches), 1},
    {"replayed", "Messages sent again because their path was lost", COUNTER(replayed), 1},
    {"duplicates", "Messages that came twice; the second was dropped", COUNTER(duplicates), 1},
    {"reconnects", "How often a lifeline was connected anew", COUNTER(reconnects), 1},
    {"reads", "Long messages that this rank's device read from the sender's memory by itself",
     COUNTER(reads), 1},
    {"retained_bytes", "Bytes kept for replay now, for all peers together",
     MCA_BASE_PVAR_CLASS_LEVEL, offsetof(struct ninja_counters, retained_bytes), 1},
    {"stalls",
     "How many times delivery on a link stood still, by duration: below 1 ms, below 2 ms, 4 ms, "
     "and so on to 16384 ms, and longer",
     COUNTER(stalls.bucket), NINJA_STALL_BUCKETS},
    {"stall_longest", "Microseconds of the longest time that delivery on a link stood still",
     MCA_BASE_PVAR_CLASS_HIGHWATERMARK, offsetof(struct ninja_counters, stalls.longest_us), 1},
};

static int get_value(const struct mca_base_pvar_t *pvar, void *value, void *object)
{
    const struct variable *variable = pvar->ctx;
    struct ninja_core *core = ninja_process_core();
    struct ninja_counters counters;
    const unsigned long *source = (const void *)((const char *)&counters + variable->offset);
    unsigned long *target = value;

    memset(&counters, 0, sizeof(counters));
    if (core != NULL)
        ninja_core_counters(core, &counters);
    for (int i = 0; i < variable->count; i++)
        target[i] = source[i];
    return OPAL_SUCCESS;
}
_Static_assert(sizeof(unsigned long) == sizeof(uint64_t), "counters are unsigned long to MPI_T");

static int notify(struct mca_base_pvar_t *pvar, mca_base_pvar_event_t event, void *object,
                  int *count)
{
    const struct variable *variable = pvar->ctx;

    if (event == MCA_BASE_PVAR_HANDLE_BIND)
        *count = variable->count;
    return OPAL_SUCCESS;
}

void mca_btl_ninja_register_variables(void)
{
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
        (void)mca_base_component_pvar_register(
            MCA_BTL_NINJA_VERSION, variables[i].name, variables[i].help, OPAL_INFO_LVL_4,
            variables[i].variable_class, MCA_BASE_VAR_TYPE_UNSIGNED_LONG, NULL,
            MCA_BASE_VAR_BIND_NO_OBJECT,
            MCA_BASE_PVAR_FLAG_READONLY | MCA_BASE_PVAR_FLAG_CONTINUOUS, get_value, NULL, notify,
            (void *)(uintptr_t)&variables[i]);
}
