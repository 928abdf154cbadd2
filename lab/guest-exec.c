// Starts QEMU for a lab guest and puts its virtual processors, and only them, into a control group
// of low weight. SPDX-License-Identifier: BSD-3-Clause
//
// usage: guest-exec GROUP QEMU [ARGUMENT...]
//
// GROUP is the group's file that takes thread ids (empty: no group). Guests then never starve the
// control side of a busy machine, and QEMU's own threads (monitor, devices, migration) stay as
// quick as everything else. If GROUP is a cgroup.procs file, as in version 2, which does not part
// the threads of a process like that, QEMU joins as a whole.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRY_MS    50
#define TRY_LIMIT 600 // half a minute: QEMU starts slowly on a busy machine

// Reads the name of thread 'tid' of process 'pid' into 'name'. Returns 0, or -1 if it is gone.
static int guest_thread_name(pid_t pid, const char *tid, char *name, int size)
{
    char path[320];
    FILE *f;
    int ret = -1;

    snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", (int)pid, tid);
    f = fopen(path, "re");
    if (f) {
        ret = fgets(name, size, f) ? 0 : -1;
        fclose(f);
    }
    return ret;
}

// Moves the threads of 'pid' that run virtual processors into the group. Returns how many, -1 if
// 'pid' is gone.
static int guest_cpus_move(pid_t pid, int tasks)
{
    char path[64], name[64];
    struct dirent *entry;
    DIR *dir;
    int moved = 0;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    dir = opendir(path);
    if (!dir) {
        return -1;
    }
    while ((entry = readdir(dir))) {
        // QEMU calls them "CPU 0/TCG", "CPU 0/KVM"; all virtual processors of a machine start
        // together.
        if (guest_thread_name(pid, entry->d_name, name, sizeof(name)) || strncmp(name, "CPU ", 4)) {
            continue;
        }
        if (write(tasks, entry->d_name, strlen(entry->d_name)) > 0) {
            moved++;
        }
    }
    closedir(dir);
    return moved;
}

// Life of the watcher: waits until the virtual processors exist. It keeps nothing of QEMU's open
// files.
static void guest_watch(pid_t pid, const char *path)
{
    int tasks;

    close_range(0, ~0U, 0);
    tasks = open(path, O_WRONLY | O_CLOEXEC);
    for (int i = 0; tasks >= 0 && i < TRY_LIMIT; i++) {
        if (guest_cpus_move(pid, tasks) != 0) {
            break;
        }
        usleep(TRY_MS * 1000);
    }
    _exit(0);
}

static void guest_join(const char *path)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, "0", 1) != 1) {
        fprintf(stderr, "guest-exec: %s: %s\n", path, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
}

int main(int argc, char **argv)
{
    pid_t pid = getpid(), child;

    if (argc < 3) {
        fprintf(stderr, "usage: guest-exec GROUP QEMU [ARGUMENT...]\n");
        return 2;
    }
    if (strstr(argv[1], "/cgroup.procs")) {
        guest_join(argv[1]);
    } else if (argv[1][0] != '\0') {
        // A child's child, so that QEMU, which takes this process over, has no child that it does
        // not know.
        child = fork();
        if (child == 0) {
            if (fork() == 0) {
                setsid();
                guest_watch(pid, argv[1]);
            }
            _exit(0);
        }
        if (child > 0) {
            waitpid(child, NULL, 0);
        }
    }
    execv(argv[2], argv + 2);
    fprintf(stderr, "guest-exec: %s: %s\n", argv[2], strerror(errno));
    return 127;
}
