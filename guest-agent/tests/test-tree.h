/* Made-up /sys and /dev trees for the unit tests.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef AGENT_TEST_TREE_H
#define AGENT_TEST_TREE_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "roots.h"

struct tree {
    char root[40], dev[60], sys[60], run[60];
    struct roots roots;
};

/* Makes an empty tree. Returns 0 or -1. */
static inline int tree_create(struct tree *tree)
{
    strcpy(tree->root, "/tmp/test-tree-XXXXXX");
    if (!mkdtemp(tree->root))
        return -1;
    snprintf(tree->dev, sizeof(tree->dev), "%s/dev", tree->root);
    snprintf(tree->sys, sizeof(tree->sys), "%s/sys", tree->root);
    snprintf(tree->run, sizeof(tree->run), "%s/run", tree->root);
    tree->roots =
        (struct roots){.dev = tree->dev, .sys = tree->sys, .proc = "/proc", .run = tree->run};
    return 0;
}

static inline int tree_destroy(struct tree *tree)
{
    char command[80];

    snprintf(command, sizeof(command), "rm -rf %s", tree->root);
    return system(command);
}

/* The path of 'name' in the tree; valid until the next call. */
static inline const char *tree_path(const struct tree *tree, const char *name)
{
    static char path[400];

    snprintf(path, sizeof(path), "%s/%s", tree->root, name);
    return path;
}

static inline void tree_make_directories(const struct tree *tree, const char *name)
{
    char path[400];

    strcpy(path, tree_path(tree, name));
    for (char *slash = path + strlen(tree->root) + 1; (slash = strchr(slash, '/'));
         *slash++ = '/') {
        *slash = '\0';
        mkdir(path, 0755);
    }
}

/* Writes a file and the directories above it. */
static inline void tree_put(const struct tree *tree, const char *name, const char *text)
{
    FILE *file;

    tree_make_directories(tree, name);
    file = fopen(tree_path(tree, name), "w");
    if (!file)
        abort();
    fputs(text, file);
    fclose(file);
}

/* Makes a link to 'target' (a path in the tree), which is made as a directory. */
static inline void tree_link(const struct tree *tree, const char *name, const char *target)
{
    char to[400];

    strcpy(to, tree_path(tree, target));
    tree_make_directories(tree, target);
    mkdir(to, 0755);
    tree_make_directories(tree, name);
    if (symlink(to, tree_path(tree, name)))
        abort();
}

#endif
