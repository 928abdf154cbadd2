/* Kernel events: RDMA and network devices that come, go or change.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "agent.h"

static int open_netlink(int protocol, unsigned groups)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = groups};
    int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    int rc;

    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&address, sizeof(address))) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

int events_open(struct agent *agent)
{
    int rc;

    agent->events_fd = open_netlink(NETLINK_KOBJECT_UEVENT, 1);
    if (agent->events_fd < 0)
        return agent->events_fd;
    /* The port of a RoCE or soft-RoCE device follows its network device. */
    agent->route_fd =
        open_netlink(NETLINK_ROUTE, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR);
    if (agent->route_fd < 0)
        return agent->route_fd;
    rc = agent_poll_add(agent, agent->events_fd, EPOLLIN, POLL_EVENTS);
    return rc ? rc : agent_poll_add(agent, agent->route_fd, EPOLLIN, POLL_ROUTE);
}

/* True if a kernel event is about devices that matter. It is a list of texts that each end with a
 * zero byte. */
static int uevent_matters(const char *event, size_t size)
{
    static const char *const subsystems[] = {"SUBSYSTEM=infiniband", "SUBSYSTEM=infiniband_verbs",
                                             "SUBSYSTEM=net"};

    for (size_t at = 0; at < size; at += strnlen(event + at, size - at) + 1)
        for (size_t i = 0; i < sizeof(subsystems) / sizeof(*subsystems); i++)
            if (!strncmp(event + at, subsystems[i], size - at))
                return 1;
    return 0;
}

int events_read(int fd)
{
    char buffer[16384];
    int matters = 0;

    for (;;) {
        struct sockaddr_nl from = {.nl_pid = 1};
        socklen_t size = sizeof(from);
        ssize_t n = recvfrom(fd, buffer, sizeof(buffer) - 1, 0, (struct sockaddr *)&from, &size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == ENOBUFS) {
            matters = 1; /* events were lost */
            continue;
        }
        if (n <= 0)
            return matters;
        if (from.nl_pid)
            continue; /* not from the kernel */
        buffer[n] = '\0';
        /* A route message begins with its length, a kernel event with text such as
         * "add@/devices/...". */
        if (!memchr(buffer, '@', (size_t)n < 16 ? (size_t)n : 16) ||
            uevent_matters(buffer, (size_t)n))
            matters = 1;
    }
}
