/* Who holds an RDMA device: processes by /proc, and users inside the kernel.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "holders.h"

/* What a process would have open. */
struct node {
    dev_t device; /* the file system */
    ino_t inode;
    dev_t number; /* of the device; 0: not a device node (in tests) */
};

void holders_add(struct holder_list *list, pid_t pid, const char *comm, const char *how)
{
    struct holder *holder = &list->holders[list->count];

    for (unsigned i = 0; pid && i < list->count && i < HOLDERS_MAX; i++)
        if (list->holders[i].pid == pid)
            return;
    if (list->count++ >= HOLDERS_MAX)
        return;
    holder->pid = pid;
    holder->opener_ended = 0;
    snprintf(holder->comm, sizeof(holder->comm), "%s", comm);
    snprintf(holder->how, sizeof(holder->how), "%s", how);
    /* It comes from other users' programs and goes into logs. */
    for (char *c = holder->comm; *c; c++)
        if (!isgraph((unsigned char)*c) || *c == '"' || *c == '\\')
            *c = '?';
}

/* True if an open file is the node, or another node of the same device. Never touches the file's
 * file system. */
static int file_is_node(int fd_directory, const char *name, const struct node *node)
{
    struct statx info;

    if (statx(fd_directory, name, AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &info))
        return 0;
    if (info.stx_ino == node->inode &&
        makedev(info.stx_dev_major, info.stx_dev_minor) == node->device)
        return 1;
    return node->number && S_ISCHR(info.stx_mode) &&
           makedev(info.stx_rdev_major, info.stx_rdev_minor) == node->number;
}

/* What cannot be opened because it is gone or not ours holds nothing that we could see; but a look
 * without descriptors or memory sees nothing at all. Returns 0 or a negative errno. */
static int look_failure(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM ? -error : 0;
}

/* These return 1 if the node is held, 0 if not, or a negative errno. */
static int fds_hold_node(const char *path, const struct node *node)
{
    DIR *opened = opendir(path);
    struct dirent *entry;
    int held = opened ? 0 : look_failure(errno);

    while (opened && !held && (entry = readdir(opened)))
        held = isdigit((unsigned char)entry->d_name[0]) &&
               file_is_node(dirfd(opened), entry->d_name, node);
    if (opened)
        closedir(opened);
    return held;
}

/* Threads may have file tables of their own. */
static int process_has_fd(const struct roots *roots, const char *pid, const struct node *node)
{
    char path[600];
    struct dirent *entry;
    DIR *opened;
    int held;

    snprintf(path, sizeof(path), "%s/%s/fd", roots->proc, pid);
    held = fds_hold_node(path, node);
    if (held)
        return held;
    snprintf(path, sizeof(path), "%s/%s/task", roots->proc, pid);
    opened = opendir(path);
    held = opened ? 0 : look_failure(errno);
    while (opened && !held && (entry = readdir(opened))) {
        if (!isdigit((unsigned char)entry->d_name[0]) || !strcmp(entry->d_name, pid))
            continue;
        snprintf(path, sizeof(path), "%s/%s/task/%s/fd", roots->proc, pid, entry->d_name);
        held = fds_hold_node(path, node);
    }
    if (opened)
        closedir(opened);
    return held;
}

/* A mapping keeps the device although its descriptor was closed. */
static int process_has_mapping(const struct roots *roots, const char *pid, const struct node *node)
{
    char path[512], line[512];
    FILE *maps;
    int held;

    snprintf(path, sizeof(path), "%s/%s/maps", roots->proc, pid);
    maps = fopen(path, "re");
    held = maps ? 0 : look_failure(errno);
    while (maps && !held && fgets(line, sizeof(line), maps)) {
        unsigned fs_major, fs_minor;
        unsigned long inode;

        held = sscanf(line, "%*s %*s %*s %x:%x %lu", &fs_major, &fs_minor, &inode) == 3 &&
               inode == node->inode && makedev(fs_major, fs_minor) == node->device;
    }
    if (maps)
        fclose(maps);
    return held;
}

static int find_processes(const struct roots *roots, const struct node *node,
                          struct holder_list *list)
{
    DIR *opened = opendir(roots->proc);
    struct dirent *entry;
    char comm[64];
    int rc = 0;

    if (!opened)
        return -errno;
    while (rc >= 0 && (entry = readdir(opened))) {
        const char *how = "open device node";

        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        rc = process_has_fd(roots, entry->d_name, node);
        if (rc == 0) {
            how = "mapped device memory";
            rc = process_has_mapping(roots, entry->d_name, node);
        }
        if (rc <= 0)
            continue;
        if (!file_read_line(comm, sizeof(comm), "%s/%s/comm", roots->proc, entry->d_name))
            strcpy(comm, "?");
        holders_add(list, (pid_t)atoi(entry->d_name), comm, how);
    }
    closedir(opened);
    return rc < 0 ? rc : 0;
}

/* A mount over RDMA does not say which device it uses, so it only explains a kernel user found
 * otherwise. */
static int mounted_over_rdma(const struct roots *roots)
{
    char path[512], line[1024];
    FILE *mounts;
    int found = 0;

    snprintf(path, sizeof(path), "%s/self/mounts", roots->proc);
    mounts = fopen(path, "re");
    while (mounts && !found && fgets(line, sizeof(line), mounts))
        found = strstr(line, "proto=rdma") != NULL;
    if (mounts)
        fclose(mounts);
    return found;
}

int holders_find(const struct roots *roots, const struct rdma_device *device, const char *node_path,
                 struct holder_list *list)
{
    struct node node = {.number = 0};
    struct stat info;
    char netdev[32];
    int rc;

    list->count = 0;
    if (!stat(node_path, &info)) {
        node.device = info.st_dev;
        node.inode = info.st_ino;
        node.number = S_ISCHR(info.st_mode) ? info.st_rdev : 0;
        rc = find_processes(roots, &node, list);
        if (rc)
            return rc;
    } else if (errno != ENOENT) {
        return -errno;
    }
    if (devices_ipoib_up(roots, device, netdev, sizeof(netdev)))
        holders_add(list, 0, netdev, "IPoIB interface that is up");
    rc = holders_find_by_netlink(roots, device->name, list);
    if (rc == -EOPNOTSUPP)
        rc = 0; /* an old kernel: the other signs must do */
    for (unsigned i = 0; i < list->count && i < HOLDERS_MAX; i++)
        if (!strcmp(list->holders[i].comm, "rpcrdma") && mounted_over_rdma(roots))
            snprintf(list->holders[i].how, sizeof(list->holders[i].how), "NFS mounted over RDMA");
    return rc;
}
