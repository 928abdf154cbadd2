/*
 * RDMA devices: what sysfs, procfs and the process's limits say about them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "verbs-device.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Receive buffers of the queues, and room to register messages. */
#define MEMLOCK_MIN (128UL << 20)
/* With this capability, CAP_IPC_LOCK, the limit does not count. */
#define CAPABILITY_IPC_LOCK 14
#define PORTS_MAX           255

/* Reads the first line of the file SYSFS/`relative` into `line`, without its end. Returns 0 or a
 * negative errno. */
static int read_line(const char *sysfs, const char *relative, char *line, size_t size)
{
    char path[512];
    FILE *file;
    char *got;

    if ((size_t)snprintf(path, sizeof(path), "%s/%s", sysfs, relative) >= sizeof(path))
        return -ENAMETOOLONG;
    file = fopen(path, "re");
    if (file == NULL)
        return -errno;
    got = fgets(line, (int)size, file);
    fclose(file);
    if (got == NULL)
        return -EIO;
    line[strcspn(line, "\n")] = '\0';
    return 0;
}

/* The state of a port for messages, "ACTIVE", "DOWN"; NULL if there is no such port. */
static const char *port_state(const char *sysfs, const char *name, unsigned port, char line[64])
{
    char relative[160];
    const char *state;

    snprintf(relative, sizeof(relative), "infiniband/%s/ports/%u/state", name, port);
    if (read_line(sysfs, relative, line, 64) != 0)
        return NULL;
    /* "4: ACTIVE" */
    state = strchr(line, ' ');
    return state != NULL ? state + 1 : line;
}

static bool port_is_active(const char *sysfs, const char *name, unsigned port)
{
    char line[64];
    const char *state = port_state(sysfs, name, port, line);

    return state != NULL && strcmp(state, "ACTIVE") == 0;
}

/* The first ACTIVE port of `name`, or 0. */
static unsigned active_port(const char *sysfs, const char *name)
{
    char line[64];

    for (unsigned port = 1; port <= PORTS_MAX && port_state(sysfs, name, port, line); port++)
        if (port_is_active(sysfs, name, port))
            return port;
    return 0;
}

static bool exists(const char *sysfs, const char *relative)
{
    char path[512];

    return (size_t)snprintf(path, sizeof(path), "%s/%s", sysfs, relative) < sizeof(path) &&
           access(path, F_OK) == 0;
}

/* Finds the device node that belongs to device->name. */
static void find_node(const char *sysfs, struct ninja_verbs_device *device)
{
    char relative[512], line[64];
    struct dirent *entry;
    DIR *directory;

    snprintf(relative, sizeof(relative), "%s/infiniband_verbs", sysfs);
    directory = opendir(relative);
    if (directory == NULL)
        return;
    while ((entry = readdir(directory)) != NULL) {
        unsigned major_number, minor_number;

        if (strncmp(entry->d_name, "uverbs", 6) != 0 ||
            strlen(entry->d_name) >= sizeof(device->node))
            continue;
        snprintf(relative, sizeof(relative), "infiniband_verbs/%s/ibdev", entry->d_name);
        if (read_line(sysfs, relative, line, sizeof(line)) != 0 || strcmp(line, device->name) != 0)
            continue;
        memcpy(device->node, entry->d_name, strlen(entry->d_name) + 1);
        snprintf(relative, sizeof(relative), "infiniband_verbs/%s/dev", entry->d_name);
        if (read_line(sysfs, relative, line, sizeof(line)) == 0 &&
            sscanf(line, "%u:%u", &major_number, &minor_number) == 2)
            device->device_number = makedev(major_number, minor_number);
        break;
    }
    closedir(directory);
}

bool ninja_verbs_device_present(const char *sysfs, const struct ninja_verbs_device *device)
{
    char relative[128];

    snprintf(relative, sizeof(relative), "infiniband_verbs/%s/ibdev", device->node);
    return exists(sysfs, relative);
}

/* Chooses the first device, by name, that has an ACTIVE port. */
static int choose(const char *sysfs, struct ninja_verbs_device *device, char *why, size_t why_size)
{
    struct dirent **entries = NULL;
    char path[512];
    int count, rc = -ENODEV;

    snprintf(path, sizeof(path), "%s/infiniband", sysfs);
    count = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;

        if (rc != 0 && name[0] != '.' && strlen(name) < sizeof(device->name)) {
            device->port = active_port(sysfs, name);
            if (device->port != 0) {
                memcpy(device->name, name, strlen(name) + 1);
                rc = 0;
            }
        }
        free(entries[i]);
    }
    free(entries);
    if (rc != 0)
        snprintf(why, why_size, "no RDMA device with an ACTIVE port is here");
    return rc;
}

/* Splits "NAME[:PORT]"; the port is 0 if none is named. Returns false if it is neither. */
static bool split(const char *wanted, struct ninja_verbs_device *device)
{
    size_t length = strcspn(wanted, ":");

    if (length == 0 || length >= sizeof(device->name) || memchr(wanted, '/', length) != NULL ||
        wanted[0] == '.')
        return false;
    memcpy(device->name, wanted, length);
    device->name[length] = '\0';
    if (wanted[length] == ':') {
        char *end;
        unsigned long port = strtoul(wanted + length + 1, &end, 10);

        if (!isdigit((unsigned char)wanted[length + 1]) || *end != '\0' || port == 0 ||
            port > PORTS_MAX)
            return false;
        device->port = (unsigned)port;
    }
    return true;
}

static int find_named(const char *sysfs, const char *wanted, struct ninja_verbs_device *device,
                      char *why, size_t why_size)
{
    char relative[128], line[64];
    const char *state;

    if (!split(wanted, device)) {
        snprintf(why, why_size, "'%s' is not the name of an RDMA device (NAME or NAME:PORT)",
                 wanted);
        return -EINVAL;
    }
    snprintf(relative, sizeof(relative), "infiniband/%s", device->name);
    if (!exists(sysfs, relative)) {
        snprintf(why, why_size, "no RDMA device %s is here", device->name);
        return -ENODEV;
    }
    if (device->port == 0)
        device->port = active_port(sysfs, device->name);
    if (device->port == 0)
        device->port = 1;
    state = port_state(sysfs, device->name, device->port, line);
    if (state == NULL) {
        snprintf(why, why_size, "RDMA device %s has no port %u", device->name, device->port);
        return -ENODEV;
    }
    if (strcmp(state, "ACTIVE") != 0) {
        snprintf(why, why_size, "port %u of RDMA device %s is %s, not ACTIVE", device->port,
                 device->name, state);
        return -ENETDOWN;
    }
    return 0;
}

int ninja_verbs_device_find(const char *sysfs, const char *wanted,
                            struct ninja_verbs_device *device, char *why, size_t why_size)
{
    struct ninja_verbs_device found = {.port = 0};
    char relative[128];
    int rc;

    rc = wanted[0] == '\0' ? choose(sysfs, &found, why, why_size)
                           : find_named(sysfs, wanted, &found, why, why_size);
    if (rc != 0)
        return rc;
    /* Only rxe shows the Ethernet device that it runs on. */
    snprintf(relative, sizeof(relative), "infiniband/%s/parent", found.name);
    found.soft_roce = exists(sysfs, relative);
    find_node(sysfs, &found);
    *device = found;
    return 0;
}

int ninja_verbs_device_check_node(const char *nodes, const struct ninja_verbs_device *device,
                                  char *why, size_t why_size)
{
    char path[256];
    int error;

    if (device->node[0] == '\0') {
        snprintf(why, why_size,
                 "RDMA device %s has no uverbs device node: is the module ib_uverbs loaded?",
                 device->name);
        return -ENODEV;
    }
    snprintf(path, sizeof(path), "%s/%s", nodes, device->node);
    if (access(path, R_OK | W_OK) == 0)
        return 0;
    error = errno;
    snprintf(why, why_size, "%s of RDMA device %s cannot be opened: %s%s", path, device->name,
             strerror(error),
             error == ENOENT ? " (the guest agent withholds it while the device is given up)" : "");
    return -error;
}

unsigned ninja_verbs_device_open_files(const struct ninja_verbs_device *device)
{
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;
    unsigned count = 0;

    if (directory == NULL)
        return 0;
    while ((entry = readdir(directory)) != NULL) {
        struct stat status;

        /* By number: the name may be gone already, or differ in another mount namespace. */
        if (isdigit((unsigned char)entry->d_name[0]) && fstat(atoi(entry->d_name), &status) == 0 &&
            S_ISCHR(status.st_mode) && device->device_number != 0 &&
            status.st_rdev == device->device_number)
            count++;
    }
    closedir(directory);
    return count;
}

/* This process may lock any amount of memory. */
static bool may_lock_all(void)
{
    unsigned long long effective = 0;
    char line[256];
    FILE *file = fopen("/proc/self/status", "re");

    if (file == NULL)
        return false;
    while (fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "CapEff: %llx", &effective) == 1)
            break;
    fclose(file);
    return (effective >> CAPABILITY_IPC_LOCK & 1) != 0;
}

int ninja_verbs_memlock_check(char *why, size_t why_size)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
        limit.rlim_cur >= MEMLOCK_MIN || may_lock_all())
        return 0;
    snprintf(
        why, why_size,
        "this process may lock only %llu KiB of memory, too little for RDMA: set memlock to "
        "unlimited ('ulimit -l unlimited', /etc/security/limits.conf, or LimitMEMLOCK=infinity "
        "of the service that starts the ranks)",
        (unsigned long long)limit.rlim_cur >> 10);
    return -ENOMEM;
}

/* --- What this process has open -------------------------------------------------------------- */

/* Devices that transports of this process have open, whichever transports. */
static atomic_uint open_devices;

int ninja_verbs_device_choose(const char *wanted, struct ninja_verbs_device *device, bool *foreign,
                              char *why, size_t why_size)
{
    int rc = ninja_verbs_device_find(NINJA_VERBS_SYSFS, wanted, device, why, why_size);

    if (rc == 0)
        rc = ninja_verbs_device_check_node(NINJA_VERBS_NODES, device, why, why_size);
    if (rc == 0)
        rc = ninja_verbs_memlock_check(why, why_size);
    *foreign =
        rc == 0 && atomic_load(&open_devices) == 0 && ninja_verbs_device_open_files(device) > 0;
    return rc;
}

void ninja_verbs_device_opened(void)
{
    atomic_fetch_add(&open_devices, 1);
}

unsigned ninja_verbs_device_closed(const struct ninja_verbs_device *device)
{
    return atomic_fetch_sub(&open_devices, 1) == 1 ? ninja_verbs_device_open_files(device) : 0;
}
