/* The RDMA devices of this machine, as sysfs shows them.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices.h"

#define ARP_TYPE_INFINIBAND "32"
#define FLAG_UP             1u

/* Calls 'each' for every entry of a directory of 'roots->sys' that does not begin with a dot, until
 * it returns 0. Returns 0, also if there is no such directory, or a negative errno. */
static int sys_for_each(const struct roots *roots, const char *directory,
                        int (*each)(const struct roots *roots, const char *name, void *ctx),
                        void *ctx)
{
    char path[512];
    struct dirent *entry;
    DIR *opened;

    snprintf(path, sizeof(path), "%s/%s", roots->sys, directory);
    opened = opendir(path);
    if (!opened)
        return errno == ENOENT ? 0 : -errno;
    while ((entry = readdir(opened)))
        if (entry->d_name[0] != '.' && !each(roots, entry->d_name, ctx))
            break;
    closedir(opened);
    return 0;
}

/* Copies text that is too long to nothing: half a name would name something else. */
static void copy_name(char *to, size_t size, const char *from)
{
    size_t length = strlen(from);

    if (length >= size)
        length = 0;
    memcpy(to, from, length);
    to[length] = '\0';
}

/* The last component of a device's path that is a PCI address. */
static void read_pci_address(const struct roots *roots, const char *link, char *pci, size_t size)
{
    char path[512], target[PATH_MAX];
    unsigned domain, bus, slot, function;
    int end;

    pci[0] = '\0';
    snprintf(path, sizeof(path), "%s/%s", roots->sys, link);
    if (!realpath(path, target))
        return;
    for (char *slash; (slash = strrchr(target, '/')); *slash = '\0') {
        end = 0;
        if (sscanf(slash + 1, "%4x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &end) == 4 &&
            end && !slash[1 + end]) {
            copy_name(pci, size, slash + 1);
            return;
        }
    }
}

static int find_uverbs(const struct roots *roots, const char *name, void *ctx)
{
    struct rdma_device *device = ctx;
    char owner[64];

    if (!file_read_line(owner, sizeof(owner), "%s/class/infiniband_verbs/%s/ibdev", roots->sys,
                        name) ||
        strcmp(owner, device->name))
        return 1;
    copy_name(device->uverbs, sizeof(device->uverbs), name);
    return 0;
}

static int gid_is_set(const char *gid)
{
    return gid[strspn(gid, "0:")] != '\0' && strcmp(gid, "fe80:0000:0000:0000:0000:0000:0000:0000");
}

static int read_port(const struct roots *roots, const char *name, void *ctx)
{
    struct rdma_device *device = ctx;
    char state[32], text[64];
    const char *word;

    if (!file_read_line(state, sizeof(state), "%s/class/infiniband/%s/ports/%s/state", roots->sys,
                        device->name, name))
        return 1;
    word = strchr(state, ' ');
    word = word ? word + 1 : state;
    device->port = (unsigned)strtoul(name, NULL, 10);
    copy_name(device->port_state, sizeof(device->port_state), word);
    if (strcmp(word, "ACTIVE"))
        return 1;
    device->usable = file_read_line(text, sizeof(text), "%s/class/infiniband/%s/ports/%s/gids/0",
                                    roots->sys, device->name, name) &&
                     gid_is_set(text);
    if (device->usable &&
        file_read_line(text, sizeof(text), "%s/class/infiniband/%s/ports/%s/link_layer", roots->sys,
                       device->name, name) &&
        !strcmp(text, "InfiniBand"))
        device->usable = file_read_line(text, sizeof(text), "%s/class/infiniband/%s/ports/%s/lid",
                                        roots->sys, device->name, name) &&
                         strtoul(text, NULL, 0) != 0;
    return 0;
}

static int read_device(const struct roots *roots, const char *name, void *ctx)
{
    struct rdma_device_list *list = ctx;
    struct rdma_device *device = &list->devices[list->count];
    char link[256];

    memset(device, 0, sizeof(*device));
    copy_name(device->name, sizeof(device->name), name);
    if (!device->name[0])
        return 1;
    if (!file_read_line(device->netdev, sizeof(device->netdev), "%s/class/infiniband/%s/parent",
                        roots->sys, name))
        file_read_line(device->netdev, sizeof(device->netdev),
                       "%s/class/infiniband/%s/ports/1/gid_attrs/ndevs/0", roots->sys, name);
    if (device->netdev[0]) {
        file_read_line(device->mac, sizeof(device->mac), "%s/class/net/%s/address", roots->sys,
                       device->netdev);
        snprintf(link, sizeof(link), "class/net/%s/device", device->netdev);
    } else {
        snprintf(link, sizeof(link), "class/infiniband/%s/device", device->name);
    }
    read_pci_address(roots, link, device->pci, sizeof(device->pci));
    (void)sys_for_each(roots, "class/infiniband_verbs", find_uverbs, device);
    snprintf(link, sizeof(link), "class/infiniband/%s/ports", device->name);
    (void)sys_for_each(roots, link, read_port, device);
    return ++list->count < DEVICES_MAX;
}

int devices_scan(const struct roots *roots, struct rdma_device_list *list)
{
    struct rdma_device_list found = {.count = 0};
    int rc = sys_for_each(roots, "class/infiniband", read_device, &found);

    if (!rc)
        *list = found;
    return rc;
}

const struct rdma_device *devices_find(const struct rdma_device_list *list, const char *name)
{
    for (unsigned i = 0; i < list->count; i++)
        if (!strcmp(list->devices[i].name, name))
            return &list->devices[i];
    return NULL;
}

struct ipoib_search {
    const struct rdma_device *device;
    char found[32];
};

static int match_ipoib(const struct roots *roots, const char *name, void *ctx)
{
    struct ipoib_search *search = ctx;
    char type[16], flags[32], link[256], pci[16];

    if (!file_read_line(type, sizeof(type), "%s/class/net/%s/type", roots->sys, name) ||
        strcmp(type, ARP_TYPE_INFINIBAND) ||
        !file_read_line(flags, sizeof(flags), "%s/class/net/%s/flags", roots->sys, name) ||
        !(strtoul(flags, NULL, 0) & FLAG_UP))
        return 1;
    snprintf(link, sizeof(link), "class/net/%s/device", name);
    read_pci_address(roots, link, pci, sizeof(pci));
    if (strcmp(pci, search->device->pci))
        return 1;
    copy_name(search->found, sizeof(search->found), name);
    return 0;
}

int devices_ipoib_up(const struct roots *roots, const struct rdma_device *device, char *netdev,
                     size_t size)
{
    struct ipoib_search search = {.device = device};

    (void)sys_for_each(roots, "class/net", match_ipoib, &search);
    copy_name(netdev, size, search.found);
    return search.found[0] != '\0';
}
