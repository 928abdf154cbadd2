/* A look at everything that matters at one host. SPDX-License-Identifier: BSD-3-Clause */
#ifndef SURVEY_H
#define SURVEY_H

#include "domain.h"
#include "inventory.h"

#define SURVEY_KEYS_MAX 256

struct survey_host {
    int reachable;
    char error[SENTENCE_MAX];
    struct domain_view *views; /* by the VM's number in the inventory */
    unsigned active;           /* VMs that run there, also foreign ones */
    unsigned key_count; /* MACs and PCI addresses in use by VMs there, also by stopped ones */
    char keys[SURVEY_KEYS_MAX][40];
};

struct survey {
    const struct inventory *inventory;
    struct survey_host *hosts; /* by the host's number */
    unsigned waiting;
    void (*done)(void *ctx, struct survey *survey);
    void *ctx;
};

/* Looks at all hosts at once; 'done' gets the result on the loop's thread, once, never before this
 * returns, and the survey is freed after it. Returns 0 or a negative errno. Loop's thread only. */
int survey_start(const struct inventory *inventory, void (*done)(void *ctx, struct survey *survey),
                 void *ctx);

/* The host where 'vm' runs (or is paused), or NULL. */
const struct inventory_host *survey_find(const struct survey *survey,
                                         const struct inventory_vm *vm);

/* What the host 'number' says about 'vm'. */
const struct domain_view *survey_view(const struct survey *survey, unsigned host,
                                      const struct inventory_vm *vm);

/* True if a VM at 'hca's host uses it, as far as that can be told. */
int survey_hca_used(const struct survey *survey, const struct inventory_hca *hca);

#endif
