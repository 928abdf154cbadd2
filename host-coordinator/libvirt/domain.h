/* Blocking calls on a VM, each for a job in the pool: they open connections of their own.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * All return 0 or a negative errno with a sentence in 'error' (SENTENCE_MAX bytes). Any thread but
 * the loop's.
 */
#ifndef DOMAIN_H
#define DOMAIN_H

#include <stdint.h>
#include <libvirt/libvirt.h>

#include "log.h"

enum domain_presence { DOMAIN_ABSENT, DOMAIN_STOPPED, DOMAIN_PAUSED, DOMAIN_RUNNING };

/* What a host's libvirtd says about a VM. */
struct domain_view {
    enum domain_presence presence;
    int job;        /* a virDomainJobType-like: 0 none, else something is going on */
    int job_in;     /* it is an incoming migration */
    int hca_live;   /* the device with the HCA's alias is in the running VM */
    int hca_config; /* ... in the persistent definition */
    char hca_key[64];
    int autostarted; /* unused by the coordinator, told to users */
};

/* Looks at 'vm' at the host with 'uri'. An absent VM is no error. */
int domain_look(const char *uri, const char *vm, const char *hca_alias, struct domain_view *view,
                char *error);

/* Asks the guest to let go of the device 'alias'. The DEVICE_REMOVED event, or domain_look(), tells
 * whether it did. -ENODEV: it is not there. */
int domain_detach(const char *uri, const char *vm, const char *alias, char *error);

/* Takes the device out of the persistent definition too; absent is fine. */
int domain_detach_config(const char *uri, const char *vm, const char *alias, char *error);

/* Plugs in the device 'xml', live and in the persistent definition, in place of one with 'alias'
 * there. */
int domain_attach(const char *uri, const char *vm, const char *alias, const char *xml, char *error);

struct domain_progress {
    int active; /* a migration is going on */
    uint64_t disk_processed, disk_remaining, disk_total;
    uint64_t memory_processed, memory_remaining, memory_total;
    uint64_t bytes_per_s; /* of memory */
    uint64_t iteration;
    uint64_t downtime_ms; /* completed jobs only */
};

/* Moves 'vm' live to 'peer_uri', from libvirtd to libvirtd, with the changed part of 'disks'.
 * Returns when all is over: minutes. */
int domain_migrate(const char *uri, const char *vm, const char *peer_uri, const char *disks,
                   char *error);

/* How far the migration of 'vm' from this host is. Raises the downtime allowed when the guest
 * changes its memory faster than it can be copied. */
int domain_sample(const char *uri, const char *vm, struct domain_progress *progress, char *error);

/* Statistics of the last migration, at its destination. */
int domain_completed(const char *uri, const char *vm, struct domain_progress *progress,
                     char *error);

/* Ends the migration of 'vm' from this host; it goes on running here. */
int domain_abort(const char *uri, const char *vm, char *error);

/* Ends the running copy at this host and forgets its definition. Only for a copy that must not run.
 */
int domain_destroy(const char *uri, const char *vm, char *error);

/* Lets a paused VM run. Only for the one copy that may run. */
int domain_resume(const char *uri, const char *vm, char *error);

/* Result of a look whether a VM can move. */
struct domain_fitness {
    char disks[64];      /* target names to copy */
    char disk_path[256]; /* of the disk */
    uint64_t memory_kib;
};

/* Checks everything about 'vm' and the hosts that libvirt can tell beforehand: definition, disks,
 * processor, machine type, memory, base image. -EINVAL with a sentence that says what holds. */
int domain_check(const char *uri, const char *to_uri, const char *vm, const char *hca_alias,
                 const char *base_image, struct domain_fitness *fitness, char *error);

#endif
