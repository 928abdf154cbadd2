/*
 * Notices that this machine was moved: its network card announces itself at the new place.
 *
 * A guest cannot see its own stop, and its peers' TCP has backed off by the time it runs again. But
 * the hypervisor asks a migrated guest's network driver to announce itself, and Linux passes that
 * on to whoever listens for changes of interfaces, a few milliseconds after the machine runs.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "moved.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int ninja_moved_open(void)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
    int rc;

    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

/* The reason why the kernel tells of an interface. */
static unsigned link_event(const struct nlmsghdr *header)
{
    const struct ifinfomsg *info = NLMSG_DATA(header);
    const struct rtattr *attribute = IFLA_RTA(info);
    unsigned size = IFLA_PAYLOAD(header), event = IFLA_EVENT_NONE;

    for (; RTA_OK(attribute, size); attribute = RTA_NEXT(attribute, size))
        if (attribute->rta_type == IFLA_EVENT && RTA_PAYLOAD(attribute) >= sizeof(event))
            memcpy(&event, RTA_DATA(attribute), sizeof(event));
    return event;
}

bool ninja_moved_parse(const void *message, size_t size)
{
    const struct nlmsghdr *header = message;

    for (; NLMSG_OK(header, size); header = NLMSG_NEXT(header, size))
        if (header->nlmsg_type == RTM_NEWLINK &&
            header->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifinfomsg)) &&
            link_event(header) == IFLA_EVENT_NOTIFY_PEERS)
            return true;
    return false;
}

bool ninja_moved_read(int fd)
{
    char buffer[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
    bool moved = false;
    ssize_t size;

    /* What did not fit into the socket's memory is missed: the announcement is repeated. */
    while ((size = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0 ||
           (size < 0 && (errno == EINTR || errno == ENOBUFS)))
        if (size > 0 && ninja_moved_parse(buffer, (size_t)size))
            moved = true;
    return moved;
}
