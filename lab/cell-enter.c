// Runs a command inside a lab host's namespaces, as if it were started there, and ends it when it
// is ended itself. SPDX-License-Identifier: BSD-3-Clause
//
// usage: cell-enter PID COMMAND [ARGUMENT...]
//
// PID is the host's first process. Signals that reach cell-enter go on to the command, which is
// killed when cell-enter is. The exit code is the command's, or 128 plus the signal that ended it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int enter_die(const char *what)
{
    fprintf(stderr, "cell-enter: %s: %s\n", what, strerror(errno));
    return 125;
}

static void enter_command_run(char **argv, const sigset_t *mask)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(argv[0], argv);
    fprintf(stderr, "cell-enter: %s: %s\n", argv[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

// Waits for the command and hands it the signals that come meanwhile. Returns its wait status.
static int enter_command_wait(pid_t child, const sigset_t *signals)
{
    for (;;) {
        siginfo_t info;
        int status, signal = sigwaitinfo(signals, &info);

        if (signal == SIGCHLD) {
            pid_t pid = waitpid(child, &status, WNOHANG | WUNTRACED);

            if (pid == child && WIFSTOPPED(status)) {
                // Job control: stop as well, and go on together.
                raise(SIGSTOP);
                kill(child, SIGCONT);
            } else if (pid == child) {
                return status;
            }
        } else if (signal > 0 && info.si_code != SI_KERNEL) {
            // What the terminal sends reaches the command by itself.
            kill(child, signal);
        }
    }
}

int main(int argc, char **argv)
{
    const int signals[] = {SIGCHLD, SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2};
    sigset_t mask, old;
    char path[64], cwd[4096];
    int fd, root, status;
    pid_t child;

    if (argc < 3) {
        fprintf(stderr, "usage: cell-enter PID COMMAND [ARGUMENT...]\n");
        return 2;
    }
    snprintf(path, sizeof(path), "/proc/%s/root", argv[1]);
    root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        return enter_die(path);
    }
    if (!getcwd(cwd, sizeof(cwd))) {
        cwd[0] = '\0';
    }
    fd = (int)syscall(SYS_pidfd_open, atoi(argv[1]), 0);
    if (fd < 0 ||
        setns(fd, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID)) {
        return enter_die(argv[1]);
    }
    close(fd);
    // Joining a mount namespace leads to its topmost root; the host's may lie below (chroot).
    if (fchdir(root) || chroot(".") || (cwd[0] == '/' && chdir(cwd) && chdir("/"))) {
        return enter_die("root directory");
    }
    close(root);
    sigemptyset(&mask);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        sigaddset(&mask, signals[i]);
    }
    sigprocmask(SIG_BLOCK, &mask, &old);
    child = fork();
    if (child < 0) {
        return enter_die("fork");
    }
    if (child == 0) {
        enter_command_run(argv + 2, &old);
    }
    status = enter_command_wait(child, &mask);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
