/* What libvirt can tell beforehand about a move: definition, disks, processor, memory, base image.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "domain.h"
#include "domain-private.h"
#include "domxml.h"
#include "host.h"

/* The VM's processor at the destination. */
static int check_cpu(virConnectPtr to, virConnectPtr from, const char *xml, char *error)
{
    char *type = domxml_text(xml, "/domain/@type"), *mode = domxml_text(xml, "/domain/cpu/@mode");
    char *arch = domxml_text(xml, "/domain/os/type/@arch");
    char *machine = domxml_text(xml, "/domain/os/type/@machine"), *cpu = domxml_cpu(xml);
    char *caps = type && arch && machine
                     ? virConnectGetDomainCapabilities(to, NULL, arch, machine, type, 0)
                     : NULL;
    int rc = 0, result;

    if (!caps) {
        sentence_set(error, "the destination cannot run a %s machine '%s': %s", type ? type : "?",
                     machine ? machine : "?", virGetLastErrorMessage());
        rc = -EINVAL;
    } else if (mode && !strcmp(mode, "host-passthrough")) {
        char *here = virConnectGetCapabilities(from), *there = virConnectGetCapabilities(to);
        char *model = here ? domxml_text(here, "/capabilities/host/cpu/model") : NULL;
        char *peer = there ? domxml_text(there, "/capabilities/host/cpu/model") : NULL;

        if (!model || !peer || !model[0] || strcmp(model, peer)) {
            sentence_set(error,
                         "it uses its host's processor as it is (host-passthrough), and the "
                         "destination's is another one (%s, %s)",
                         model && model[0] ? model : "unknown", peer && peer[0] ? peer : "unknown");
            rc = -EINVAL;
        }
        free(here), free(there), free(model), free(peer);
    } else if (mode && strcmp(mode, "maximum") && cpu) {
        result = virConnectCompareHypervisorCPU(to, NULL, arch, machine, type, cpu, 0);
        if (result == VIR_CPU_COMPARE_INCOMPATIBLE || result == VIR_CPU_COMPARE_ERROR) {
            sentence_set(error, "the destination lacks processor features that it uses: %s",
                         result == VIR_CPU_COMPARE_ERROR ? virGetLastErrorMessage()
                                                         : "libvirt compared them");
            rc = -EINVAL;
        }
    }
    free(type), free(mode), free(arch), free(machine), free(cpu), free(caps);
    return rc;
}

static int check_memory(virConnectPtr to, uint64_t kib, char *error)
{
    unsigned long long available = virNodeGetFreeMemory(to);
    virNodeMemoryStatsPtr stats;
    int count = 0;

    /* What caches hold counts as free. */
    if (!virNodeGetMemoryStats(to, VIR_NODE_MEMORY_STATS_ALL_CELLS, NULL, &count, 0) && count > 0 &&
        (stats = calloc((size_t)count, sizeof(*stats)))) {
        if (!virNodeGetMemoryStats(to, VIR_NODE_MEMORY_STATS_ALL_CELLS, stats, &count, 0))
            for (int i = 0; i < count; i++)
                if (!strcmp(stats[i].field, VIR_NODE_MEMORY_STATS_CACHED))
                    available += stats[i].value * 1024;
        free(stats);
    }
    if (available / 1024 >= kib)
        return 0;
    sentence_set(error, "the destination has %llu MiB of memory free, it needs %llu MiB",
                 available / 1048576, (unsigned long long)kib / 1024);
    return -EINVAL;
}

static int check_base_image(virConnectPtr to, const char *path, char *error)
{
    virStorageVolPtr volume;
    virStoragePoolPtr *pools = NULL;
    int count = virConnectListAllStoragePools(to, &pools, VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE);

    /* A pool does not notice files that others bring or remove. */
    for (int i = 0; i < count; i++) {
        virStoragePoolRefresh(pools[i], 0);
        virStoragePoolFree(pools[i]);
    }
    free(pools);
    volume = virStorageVolLookupByPath(to, path);
    if (!volume) {
        sentence_set(error, "the destination lacks the base image %s (or no storage pool holds it)",
                     path);
        return -EINVAL;
    }
    virStorageVolFree(volume);
    return 0;
}

static int check_at_destination(virConnectPtr to, const char *vm, char *error)
{
    virDomainPtr there = virDomainLookupByName(to, vm);
    int active = there ? virDomainIsActive(there) : 0;

    if (there)
        virDomainFree(there);
    if (!active)
        return 0;
    sentence_set(error, "a VM named %s runs at the destination already", vm);
    return -EINVAL;
}

int domain_check(const char *uri, const char *to_uri, const char *vm, const char *hca_alias,
                 const char *base_image, struct domain_fitness *fitness, char *error)
{
    struct domain_handle handle;
    virConnectPtr to;
    char *xml, *memory, why[SENTENCE_MAX];
    int rc;

    memset(fitness, 0, sizeof(*fitness));
    rc = domain_open(&handle, uri, vm, error);
    if (rc)
        return rc;
    to = host_connect(to_uri, why);
    if (!to) {
        sentence_set(error, "the destination does not answer: %.300s", why);
        domain_close(&handle);
        return -EHOSTUNREACH;
    }
    xml = virDomainGetXMLDesc(handle.domain, 0);
    rc = xml ? 0 : domain_fail(error, "definition");
    if (!rc) {
        memory = domxml_text(xml, "/domain/memory");
        fitness->memory_kib = memory ? strtoull(memory, NULL, 10) : 0;
        free(memory);
        rc = domxml_immovable(xml, hca_alias, error);
    }
    if (!rc)
        rc = domxml_disks(xml, fitness->disks, sizeof(fitness->disks), fitness->disk_path,
                          sizeof(fitness->disk_path), error);
    if (!rc)
        rc = check_at_destination(to, vm, error);
    if (!rc)
        rc = check_cpu(to, handle.connection, xml, error);
    if (!rc)
        rc = check_memory(to, fitness->memory_kib, error);
    if (!rc && fitness->disks[0])
        rc = check_base_image(to, base_image, error);
    free(xml);
    virConnectClose(to);
    domain_close(&handle);
    return rc;
}
