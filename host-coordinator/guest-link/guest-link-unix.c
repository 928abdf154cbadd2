/* A guest link over the unix socket of a VM's channel.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "guest-link-private.h"

struct unix_transport {
    int fd;
    int wants_write;
};

static ssize_t unix_read(void *transport, void *buffer, size_t size)
{
    ssize_t n = recv(((struct unix_transport *)transport)->fd, buffer, size, MSG_DONTWAIT);

    return n < 0 ? -errno : n;
}

static ssize_t unix_write(void *transport, const void *data, size_t size)
{
    ssize_t n =
        send(((struct unix_transport *)transport)->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);

    return n < 0 ? -errno : n;
}

static void unix_watch_write(void *transport, int on)
{
    ((struct unix_transport *)transport)->wants_write = on;
}

static void unix_close(void *transport)
{
    close(((struct unix_transport *)transport)->fd);
    free(transport);
}

static const struct guest_link_transport unix_functions = {unix_read, unix_write, unix_watch_write,
                                                           unix_close};

int guest_link_attach_fd(struct guest_link *link, int fd)
{
    struct unix_transport *transport = calloc(1, sizeof(*transport));

    if (!transport) {
        close(fd);
        return -ENOMEM;
    }
    transport->fd = fd;
    guest_link_attach(link, &unix_functions, transport);
    return 0;
}

int guest_link_attach_unix(struct guest_link *link, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, rc;

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return guest_link_attach_fd(link, fd);
}

static const struct unix_transport *unix_of(const struct guest_link *link)
{
    return guest_link_transport_of(link, &unix_functions);
}

int guest_link_unix_fd(const struct guest_link *link)
{
    const struct unix_transport *transport = unix_of(link);

    return transport ? transport->fd : -1;
}

int guest_link_unix_wants_write(const struct guest_link *link)
{
    const struct unix_transport *transport = unix_of(link);

    return transport && transport->wants_write;
}
