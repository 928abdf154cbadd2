/* The fence: withholds a device node and puts it back exactly as it was.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fence.h"

#define WITHHELD_DIRECTORY ".symvirt-withheld"

static void open_path(const struct roots *roots, const char *uverbs, char *path, size_t size)
{
    snprintf(path, size, "%s/infiniband/%s", roots->dev, uverbs);
}

static void withheld_path(const struct roots *roots, const char *uverbs, char *path, size_t size)
{
    snprintf(path, size, "%s/infiniband/" WITHHELD_DIRECTORY "/%s", roots->dev, uverbs);
}

int fence_is_up(const struct roots *roots, const char *uverbs)
{
    char path[512];

    withheld_path(roots, uverbs, path, sizeof(path));
    return uverbs[0] && !access(path, F_OK);
}

void fence_node_path(const struct roots *roots, const char *uverbs, char *path, size_t size)
{
    if (fence_is_up(roots, uverbs))
        withheld_path(roots, uverbs, path, size);
    else
        open_path(roots, uverbs, path, size);
}

int fence_withhold(const struct roots *roots, const char *uverbs)
{
    char from[512], to[512], directory[512];

    open_path(roots, uverbs, from, sizeof(from));
    withheld_path(roots, uverbs, to, sizeof(to));
    snprintf(directory, sizeof(directory), "%s/infiniband/" WITHHELD_DIRECTORY, roots->dev);
    if (mkdir(directory, 0700) && errno != EEXIST)
        return -errno;
    /* A new node of the same name replaces one that a vanished device left behind. */
    if (!rename(from, to) || (errno == ENOENT && fence_is_up(roots, uverbs)))
        return 0;
    return -errno;
}

/* True if sysfs still has the device with the node's number (or the node is no device at all, as in
 * tests). */
static int device_of_node_exists(const struct roots *roots, const char *uverbs,
                                 const struct stat *node)
{
    char text[32], number[32];

    if (!file_read_line(text, sizeof(text), "%s/class/infiniband_verbs/%s/dev", roots->sys, uverbs))
        return 0;
    snprintf(number, sizeof(number), "%u:%u", major(node->st_rdev), minor(node->st_rdev));
    return !S_ISCHR(node->st_mode) || !strcmp(text, number);
}

int fence_restore(const struct roots *roots, const char *uverbs)
{
    char from[512], to[512];
    struct stat node;

    withheld_path(roots, uverbs, from, sizeof(from));
    open_path(roots, uverbs, to, sizeof(to));
    if (lstat(from, &node))
        return errno == ENOENT ? 0 : -errno;
    if (!access(to, F_OK) || !device_of_node_exists(roots, uverbs, &node))
        return unlink(from) ? -errno : 0;
    return rename(from, to) ? -errno : 0;
}

/* Calls 'each' for every withheld node. */
static void
for_each_withheld(const struct roots *roots,
                  void (*each)(const struct roots *roots, const char *uverbs, void *ctx), void *ctx)
{
    char path[512];
    struct dirent *entry;
    DIR *opened;

    snprintf(path, sizeof(path), "%s/infiniband/" WITHHELD_DIRECTORY, roots->dev);
    opened = opendir(path);
    while (opened && (entry = readdir(opened)))
        if (entry->d_name[0] != '.')
            each(roots, entry->d_name, ctx);
    if (opened)
        closedir(opened);
}

struct restore_choice {
    int (*keep)(void *ctx, const char *uverbs);
    void *ctx;
};

static void restore_unless_kept(const struct roots *roots, const char *uverbs, void *ctx)
{
    const struct restore_choice *choice = ctx;
    int rc;

    if (choice->keep(choice->ctx, uverbs))
        return;
    rc = fence_restore(roots, uverbs);
    if (rc)
        agent_log("cannot put back %s: %s", uverbs, strerror(-rc));
    else
        agent_log("put back %s, which an earlier agent withheld", uverbs);
}

void fence_restore_others(const struct roots *roots, int (*keep)(void *ctx, const char *uverbs),
                          void *ctx)
{
    struct restore_choice choice = {keep, ctx};

    for_each_withheld(roots, restore_unless_kept, &choice);
}

static void remove_if_vanished(const struct roots *roots, const char *uverbs, void *ctx)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/class/infiniband_verbs/%s", roots->sys, uverbs);
    if (access(path, F_OK))
        fence_restore(roots, uverbs); /* which removes a node without a device */
}

void fence_forget_vanished(const struct roots *roots)
{
    for_each_withheld(roots, remove_if_vanished, NULL);
}
