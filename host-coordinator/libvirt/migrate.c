/* Blocking libvirt calls of a live migration. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "domain.h"
#include "domain-private.h"
#include "host.h"

/* Passes over the memory after which more downtime is allowed, and how much, in ms. Slowing the
 * guest's processors down instead would hold all ranks up for longer. */
static const struct {
    unsigned iteration, downtime_ms;
} downtime_steps[] = {{40, 3000}, {20, 1500}, {8, 800}};

int domain_migrate(const char *uri, const char *vm, const char *peer_uri, const char *disks,
                   char *error)
{
    unsigned flags = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_PERSIST_DEST |
                     VIR_MIGRATE_UNDEFINE_SOURCE;
    struct domain_handle handle;
    virTypedParameterPtr params = NULL;
    int count = 0, max = 0, rc = domain_open(&handle, uri, vm, error);

    if (rc)
        return rc;
    if (disks[0]) {
        flags |= VIR_MIGRATE_NON_SHARED_INC;
        if (virTypedParamsAddString(&params, &count, &max, VIR_MIGRATE_PARAM_MIGRATE_DISKS, disks) <
            0)
            rc = domain_fail(error, "migrate");
    }
    if (!rc && virDomainMigrateToURI3(handle.domain, peer_uri, params, (unsigned)count, flags) < 0)
        rc = domain_fail(error, "migrate");
    virTypedParamsFree(params, count);
    domain_close(&handle);
    return rc;
}

static uint64_t number(virTypedParameterPtr params, int count, const char *name)
{
    unsigned long long value = 0;

    virTypedParamsGetULLong(params, count, name, &value);
    return value;
}

static int read_stats(virDomainPtr domain, unsigned flags, struct domain_progress *progress)
{
    virTypedParameterPtr params = NULL;
    int type = 0, count = 0;

    if (virDomainGetJobStats(domain, &type, &params, &count, flags) < 0)
        return -1;
    progress->active = type == VIR_DOMAIN_JOB_BOUNDED || type == VIR_DOMAIN_JOB_UNBOUNDED;
    progress->disk_processed = number(params, count, VIR_DOMAIN_JOB_DISK_PROCESSED);
    progress->disk_remaining = number(params, count, VIR_DOMAIN_JOB_DISK_REMAINING);
    progress->disk_total = number(params, count, VIR_DOMAIN_JOB_DISK_TOTAL);
    progress->memory_processed = number(params, count, VIR_DOMAIN_JOB_MEMORY_PROCESSED);
    progress->memory_remaining = number(params, count, VIR_DOMAIN_JOB_MEMORY_REMAINING);
    progress->memory_total = number(params, count, VIR_DOMAIN_JOB_MEMORY_TOTAL);
    progress->bytes_per_s = number(params, count, VIR_DOMAIN_JOB_MEMORY_BPS);
    progress->iteration = number(params, count, VIR_DOMAIN_JOB_MEMORY_ITERATION);
    progress->downtime_ms = number(params, count, VIR_DOMAIN_JOB_DOWNTIME);
    virTypedParamsFree(params, count);
    return 0;
}

int domain_sample(const char *uri, const char *vm, struct domain_progress *progress, char *error)
{
    struct domain_handle handle;
    int rc;

    memset(progress, 0, sizeof(*progress));
    rc = domain_open(&handle, uri, vm, error);
    if (rc)
        return rc;
    if (read_stats(handle.domain, 0, progress))
        rc = domain_fail(error, "migration statistics");
    for (unsigned i = 0; !rc && i < sizeof(downtime_steps) / sizeof(downtime_steps[0]); i++)
        if (progress->active && progress->iteration >= downtime_steps[i].iteration) {
            virDomainMigrateSetMaxDowntime(handle.domain, downtime_steps[i].downtime_ms, 0);
            break;
        }
    domain_close(&handle);
    return rc;
}

int domain_completed(const char *uri, const char *vm, struct domain_progress *progress, char *error)
{
    struct domain_handle handle;
    int rc;

    memset(progress, 0, sizeof(*progress));
    rc = domain_open(&handle, uri, vm, error);
    if (rc)
        return rc;
    if (read_stats(handle.domain, VIR_DOMAIN_JOB_STATS_COMPLETED, progress))
        rc = domain_fail(error, "migration statistics");
    domain_close(&handle);
    return rc;
}
