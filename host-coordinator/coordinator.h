/* The coordinator: all that ninjad knows. SPDX-License-Identifier: BSD-3-Clause */
#ifndef COORDINATOR_H
#define COORDINATOR_H

#include "guest.h"
#include "host.h"
#include "inventory.h"
#include "journal.h"

struct move;
struct plan;

struct coordinator {
    const struct inventory *inventory;
    struct journal *journal;
    struct host **hosts;   /* by the host's number */
    struct guest **guests; /* by the VM's number */
    struct move *moves;    /* that have not ended */
    struct plan *plans;
    /* Something happened that followers of 'plan' should see; the reference is the callee's. */
    void (*tell)(struct coordinator *coordinator, int64_t plan, json_t *message);
};

/* Connects to all hosts, follows all VMs and takes up what the journal says is unfinished. */
int coordinator_start(struct coordinator *coordinator);

/* The connection to 'host'. */
struct host *coordinator_host(const struct coordinator *coordinator,
                              const struct inventory_host *host);

/* The link to the agent of 'vm'. */
struct guest *coordinator_guest(const struct coordinator *coordinator,
                                const struct inventory_vm *vm);

#endif
