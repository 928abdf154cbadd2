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
    char *announce;        /* by the VM's number: its agent does not know its fabric */
    struct move *moves;    /* that have not ended */
    struct plan *plans;
    int link_limit_s; /* until a new HCA's port must be usable */
    /* Something happened that followers of 'plan' should see; the reference is the callee's. */
    void (*tell)(struct coordinator *coordinator, int64_t plan, json_t *message);
};

/* Connects to all hosts, follows all VMs and takes up what the journal says is unfinished. */
int coordinator_start(struct coordinator *coordinator);

/* The connection to 'host'. */
struct host *coordinator_host(const struct coordinator *coordinator,
                              const struct inventory_host *host);

/* 'fabric' for requests to the agent of 'vm', reached by 'hca' (NULL: not told); 'add' is 1 for a
 * new attachment (new reference). */
json_t *coordinator_fabric(const struct coordinator *coordinator, const struct inventory_vm *vm,
                           const struct inventory_fabric *fabric, const struct inventory_hca *hca,
                           unsigned add);

/* The link to the agent of 'vm'. */
struct guest *coordinator_guest(const struct coordinator *coordinator,
                                const struct inventory_vm *vm);

#endif
