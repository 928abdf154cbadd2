/* Sends heartbeats and requests to ninja-observer.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "heartbeat.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

uint64_t heartbeat_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Splits 'address' into host and port; returns 0, or -1 if it is none. */
static int address_split(const char *address, char *host, size_t host_size, const char **port)
{
    const char *end, *start = address;
    size_t length;

    *port = HEARTBEAT_DEFAULT_PORT;
    if (*address == '[') {
        start = address + 1;
        end = strchr(start, ']');
        if (!end || (end[1] && end[1] != ':'))
            return -1;
        if (end[1])
            *port = end + 2;
    } else {
        end = strchr(address, ':');
        if (end)
            *port = end + 1;
        else
            end = address + strlen(address);
    }
    length = (size_t)(end - start);
    if (length == 0 || length >= host_size || **port == '\0')
        return -1;
    memcpy(host, start, length);
    host[length] = '\0';
    return 0;
}

int heartbeat_connect(const char *address)
{
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *list = NULL, *ai;
    char host[256];
    const char *port;
    int fd = -1, status;

    if (address_split(address, host, sizeof host, &port) < 0) {
        fprintf(stderr, "observer '%s': not an address of the form HOST:PORT\n", address);
        return -1;
    }
    status = getaddrinfo(host, port, &hints, &list);
    if (status != 0) {
        fprintf(stderr, "observer '%s': %s\n", address, gai_strerror(status));
        return -1;
    }
    for (ai = list; ai && fd < 0; ai = ai->ai_next) {
        fd = socket(ai->ai_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
            status = errno;
            close(fd);
            fd = -1;
            errno = status;
        }
    }
    if (fd < 0)
        fprintf(stderr, "observer '%s': %s\n", address, strerror(errno));
    freeaddrinfo(list);
    return fd;
}

int heartbeat_open(struct heartbeat *hb, const char *address, uint64_t job, uint32_t rank,
                   uint32_t ranks)
{
    *hb = (struct heartbeat){.fd = -1, .job = job, .rank = rank, .ranks = ranks};
    if (!address)
        return 0;
    hb->fd = heartbeat_connect(address);
    return hb->fd < 0 ? -1 : 0;
}

static void heartbeat_send(struct heartbeat *hb, enum heartbeat_kind kind, uint64_t messages,
                           uint64_t bytes, uint64_t now)
{
    struct heartbeat_frame frame = {
        .magic = htonl(HEARTBEAT_MAGIC),
        .version = htons(HEARTBEAT_VERSION),
        .kind = htons((uint16_t)kind),
        .job = htobe64(hb->job),
        .rank = htonl(hb->rank),
        .ranks = htonl(hb->ranks),
        .seq = htobe64(hb->seq++),
        .messages = htobe64(messages),
        .bytes = htobe64(bytes),
    };

    /* A heartbeat that cannot be sent is a heartbeat that is missing: nothing to handle. */
    if (send(hb->fd, &frame, sizeof frame, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        errno = 0;
    hb->last_ns = now;
}

void heartbeat_beat(struct heartbeat *hb, enum heartbeat_kind kind, uint64_t messages,
                    uint64_t bytes)
{
    uint64_t now;

    if (hb->fd < 0)
        return;
    now = heartbeat_clock();
    if (now - hb->last_ns >= HEARTBEAT_INTERVAL_NS)
        heartbeat_send(hb, kind, messages, bytes, now);
}

void heartbeat_announce(struct heartbeat *hb, enum heartbeat_kind kind, uint64_t messages,
                        uint64_t bytes)
{
    int i;

    for (i = 0; hb->fd >= 0 && i < 3; i++)
        heartbeat_send(hb, kind, messages, bytes, heartbeat_clock());
}

int heartbeat_request(int fd, enum heartbeat_kind kind, uint64_t job, const char *label,
                      char *answer, size_t size)
{
    struct heartbeat_frame frame = {
        .magic = htonl(HEARTBEAT_MAGIC),
        .version = htons(HEARTBEAT_VERSION),
        .kind = htons((uint16_t)kind),
        .job = htobe64(job),
    };
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    ssize_t got;
    int attempt;

    if (label)
        strncpy(frame.label, label, sizeof frame.label - 1);
    for (attempt = 0; attempt < 5; attempt++) {
        if (send(fd, &frame, sizeof frame, MSG_NOSIGNAL) < 0 && errno != ECONNREFUSED)
            return -1;
        if (poll(&readable, 1, 400) <= 0)
            continue;
        got = recv(fd, answer, size - 1, MSG_DONTWAIT);
        if (got > 0) {
            answer[got] = '\0';
            return 0;
        }
    }
    return -1;
}

void heartbeat_close(struct heartbeat *hb)
{
    if (hb->fd >= 0)
        close(hb->fd);
    hb->fd = -1;
}
