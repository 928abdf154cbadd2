/*
 * Which of TCP's congestion controls a connection uses.
 *
 * BBR spreads what it sends over time by a timer. To a peer in the same building there is no queue
 * to be spared, and pacing costs most of the bandwidth (docs/speed.md). A connection that once had
 * bbr is paced for ever, whatever it is given later (the kernel does not take sk_pacing_status
 * back); so where the system's choice is bbr, connections begin with reno, and those whose peer
 * turns out to be far get bbr when they are established.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

#include "core.h"
#include "tcp-stream.h"

/* A peer with a shorter round trip is near. */
#define NEAR_US 1000

/* Every kernel has it, and every user may choose it. */
#define NEAR_CONGESTION "reno"

/* Gives socket `fd` the congestion control `name`. */
static void set_congestion(const struct ninja_tcp *tcp, int fd, const char *name)
{
    if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)) != 0)
        ninja_log(tcp->transport.core, 1, "TCP congestion control '%s' cannot be had: %s", name,
                  strerror(errno));
}

void ninja_tcp_congestion_begin(struct ninja_tcp *tcp, int fd)
{
    const char *wanted = tcp->transport.core->config.congestion;
    char *system = tcp->far_congestion;
    socklen_t size = sizeof(tcp->far_congestion) - 1;

    if (strcmp(wanted, NINJA_CONGESTION_AUTO) != 0) {
        if (wanted[0] != '\0')
            set_congestion(tcp, fd, wanted);
        return;
    }
    memset(system, 0, sizeof(tcp->far_congestion));
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, system, &size) != 0 ||
        strncmp(system, "bbr", 3) != 0) {
        system[0] = '\0';
        return;
    }
    set_congestion(tcp, fd, NEAR_CONGESTION);
}

void ninja_tcp_congestion_settle(const struct ninja_tcp_stream *stream)
{
    struct tcp_info info;
    socklen_t size = sizeof(info);

    if (stream->tcp->far_congestion[0] != '\0' &&
        getsockopt(stream->fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
        info.tcpi_rtt >= NEAR_US)
        set_congestion(stream->tcp, stream->fd, stream->tcp->far_congestion);
}
