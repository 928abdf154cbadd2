/*
 * Two unix sockets made one: whoever connects to the first talks to whoever connects to the second.
 * In tests it stands where QEMU's virtio-serial channel is, between an agent and the host.
 *
 *   socket-splice PATH PATH
 *
 * Ends at the end of its standard input.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
        return -1;
    strcpy(address.sun_path, path);
    unlink(path);
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 1) != 0)
        return -1;
    return fd;
}

/* Moves what has come from `from` to `to`; 0 at the end of either. What nobody is there to take is
 * lost, as on the real channel. */
static int move(int from, int to)
{
    char buffer[65536];
    ssize_t size = read(from, buffer, sizeof(buffer));

    for (ssize_t done = 0; size > 0 && to >= 0 && done < size;) {
        ssize_t n = write(to, buffer + done, (size_t)(size - done));

        if (n <= 0)
            break;
        done += n;
    }
    return size > 0;
}

int main(int argc, char **argv)
{
    int listeners[2], ends[2] = {-1, -1};

    if (argc != 3 || (listeners[0] = listen_at(argv[1])) < 0 ||
        (listeners[1] = listen_at(argv[2])) < 0) {
        fputs("usage: socket-splice PATH PATH\n", stderr);
        return 2;
    }
    for (;;) {
        struct pollfd polled[5] = {{.fd = STDIN_FILENO, .events = POLLIN}};
        char ignored[64];

        for (int i = 0; i < 2; i++) {
            polled[1 + i] =
                (struct pollfd){.fd = ends[i] < 0 ? listeners[i] : -1, .events = POLLIN};
            polled[3 + i] = (struct pollfd){.fd = ends[i], .events = POLLIN};
        }
        if (poll(polled, 5, -1) < 0)
            return 1;
        if (polled[0].revents != 0 && read(STDIN_FILENO, ignored, sizeof(ignored)) <= 0)
            return 0;
        for (int i = 0; i < 2; i++) {
            if (polled[1 + i].revents != 0)
                ends[i] = accept4(listeners[i], NULL, NULL, SOCK_CLOEXEC);
            if (polled[3 + i].revents != 0 && !move(ends[i], ends[1 - i])) {
                close(ends[i]);
                ends[i] = -1;
            }
        }
    }
}
