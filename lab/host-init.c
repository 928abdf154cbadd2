// First process of a lab host: makes the host's namespaces, records itself and ends with everything
// inside. SPDX-License-Identifier: BSD-3-Clause
//
// usage: host-init PIDFILE HOSTNAME LOG
//
// Makes a mount, network, UTS, IPC and PID namespace and stays as process 1 of it. PIDFILE gets
// "PID STARTTIME" (as the caller's namespace sees it) before anything else can start inside, so
// that whoever finds PIDFILE can end the whole host by killing this one process: the kernel then
// kills every process of the PID namespace and drops its mounts and network devices.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void host_die(const char *what)
{
    fprintf(stderr, "host-init: %s: %s\n", what, strerror(errno));
    exit(1);
}

// Reads the start time of process 'pid' in clock ticks since boot. Returns 0 on failure.
static unsigned long long host_start_time(pid_t pid)
{
    char path[64], line[1024], *p;
    unsigned long long start = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    f = fopen(path, "re");
    if (!f) {
        return 0;
    }
    // The command name may hold blanks: fields are counted from its closing bracket.
    if (fgets(line, sizeof(line), f) && (p = strrchr(line, ')'))) {
        for (int field = 2; field < 22 && p; field++) {
            p = strchr(p + 1, ' ');
        }
        if (p) {
            start = strtoull(p, NULL, 10);
        }
    }
    fclose(f);
    return start;
}

// Writes PIDFILE in one step, so that a reader never sees half of it.
static int host_record(const char *pidfile, pid_t pid)
{
    char tmp[4096];
    unsigned long long start = host_start_time(pid);
    FILE *f;

    snprintf(tmp, sizeof(tmp), "%s.tmp", pidfile);
    f = fopen(tmp, "we");
    if (!f || start == 0) {
        return -1;
    }
    fprintf(f, "%d %llu\n", (int)pid, start);
    if (fclose(f) != 0) {
        return -1;
    }
    return rename(tmp, pidfile);
}

// Gives the process a log file as output, no input, and nothing else of the caller's open files.
static void host_files_set(const char *log)
{
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    if (in < 0 || out < 0) {
        host_die("open log");
    }
    dup2(in, 0);
    dup2(out, 1);
    dup2(out, 2);
    close(in);
    close(out);
}

// Life of process 1: collects the orphans of the namespace until it is killed.
static void host_run(const char *hostname)
{
    sigset_t all;

    prctl(PR_SET_NAME, "lab-host");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
        host_die("cannot make mounts private (in a chroot, its directory must be a mount point)");
    }
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) ||
        sethostname(hostname, strlen(hostname))) {
        host_die("set up namespaces");
    }
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (;;) {
        siginfo_t info;

        if (sigwaitinfo(&all, &info) < 0) {
            continue;
        }
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
    }
}

int main(int argc, char **argv)
{
    int gate[2];
    char go;
    pid_t pid;

    if (argc != 4) {
        fprintf(stderr, "usage: host-init PIDFILE HOSTNAME LOG\n");
        return 2;
    }
    if (pipe2(gate, O_CLOEXEC)) {
        host_die("pipe");
    }
    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID)) {
        host_die("unshare");
    }
    pid = fork();
    if (pid < 0) {
        host_die("fork");
    }
    if (pid == 0) {
        // A parent that dies before it recorded us must not leave us behind: the gate then closes.
        close(gate[1]);
        if (read(gate[0], &go, 1) != 1) {
            _exit(1);
        }
        setsid();
        host_files_set(argv[3]);
        close_range(3, ~0U, 0);
        host_run(argv[2]);
    }
    close(gate[0]);
    if (host_record(argv[1], pid)) {
        host_die(argv[1]);
    }
    if (write(gate[1], "g", 1) != 1) {
        host_die("start host");
    }
    return 0;
}
