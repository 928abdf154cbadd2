// Measures what one TCP connection carries between two lab hosts.
// SPDX-License-Identifier: BSD-3-Clause
//
// usage: net-rate receive PORT            prints the rate in Mbit/s of one connection, or 0
//        net-rate send ADDRESS PORT SECONDS
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char rate_buffer[256 * 1024];

static double rate_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int rate_die(const char *what)
{
    fprintf(stderr, "net-rate: %s: %s\n", what, strerror(errno));
    return 1;
}

// Counts what arrives after the first 0.3 s, which belong to TCP's slow start.
static int rate_receive(const char *port)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    struct timeval limit = {.tv_sec = 5};
    int one = 1, l = socket(AF_INET, SOCK_STREAM, 0), fd;
    double start, from = 0, last = 0, bytes = 0;
    ssize_t n;

    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    // A listener with a receive limit gives up when nobody calls.
    setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (bind(l, (struct sockaddr *)&sin, sizeof(sin)) || listen(l, 1) ||
        (fd = accept(l, NULL, NULL)) < 0) {
        puts("0");
        return rate_die("accept");
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    start = rate_now();
    while ((n = read(fd, rate_buffer, sizeof(rate_buffer))) > 0) {
        last = rate_now();
        if (from > 0) {
            bytes += (double)n;
        } else if (last - start > 0.3) {
            from = last;
        }
    }
    printf("%.0f\n", from > 0 && last > from ? bytes * 8 / (last - from) / 1e6 : 0);
    return 0;
}

static int rate_send(const char *address, const char *port, const char *seconds)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    struct timeval limit = {.tv_sec = 5};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    double end;

    inet_pton(AF_INET, address, &sin.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&sin, sizeof(sin))) {
        return rate_die("connect");
    }
    end = rate_now() + atof(seconds);
    while (rate_now() < end) {
        if (write(fd, rate_buffer, sizeof(rate_buffer)) < 0) {
            return rate_die("write");
        }
    }
    close(fd);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "receive")) {
        return rate_receive(argv[2]);
    }
    if (argc == 5 && !strcmp(argv[1], "send")) {
        return rate_send(argv[2], argv[3], argv[4]);
    }
    fprintf(stderr, "usage: net-rate receive PORT | net-rate send ADDRESS PORT SECONDS\n");
    return 2;
}
