/* Carries frames between two interfaces with a delay that can be changed at any time: a fabric on
 * which data is long under way. SPDX-License-Identifier: BSD-3-Clause
 *
 * usage: fabric-relay INTERFACE INTERFACE; ends at the end of standard input, which has commands:
 *   delay MS    a frame comes out so long after it went in
 *   rate MBITS  so fast at most, both ways together: the rest waits here; 0 is no limit
 *   hold        nothing comes out until the next command
 * (A kernel with netem would need no such program; many test machines have none.)
 */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX  (sizeof(struct virtio_net_hdr) + 65536 + 64)
#define QUEUED_MAX (512u << 20) /* bytes under way; more are dropped, as a real fabric would */

/* A frame under way, with its offload header: segments stay whole from end to end. */
struct frame {
    struct frame *next;
    uint64_t due_ns;
    int out; /* socket to send it on */
    size_t size;
    unsigned char data[];
};

static struct frame *first, **last = &first;
static size_t queued_bytes;
static uint64_t delay_ns, last_due_ns, dropped;
static double byte_ns; /* how long a byte takes */
static bool held;

static uint64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Opens a packet socket on interface 'name', or exits. */
static int port_open(const char *name)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    int on = 1, size = 64 << 20, fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);

    address.sll_ifindex = (int)if_nametoindex(name);
    if (fd < 0 || address.sll_ifindex == 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        fprintf(stderr, "fabric-relay: %s: %s\n", name, strerror(errno));
        exit(1);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    return fd;
}

/* Takes all frames that have arrived at 'in'. */
static void port_receive(int in, int out)
{
    static unsigned char buffer[FRAME_MAX];
    struct frame *frame;
    ssize_t size;

    while ((size = recv(in, buffer, sizeof buffer, MSG_DONTWAIT)) > 0) {
        frame = queued_bytes < QUEUED_MAX ? malloc(sizeof *frame + (size_t)size) : NULL;
        if (!frame) {
            dropped++;
            continue;
        }
        /* Nothing overtakes: a fabric keeps the order even when it becomes faster. */
        frame->due_ns = clock_ns() + delay_ns;
        if (frame->due_ns < last_due_ns)
            frame->due_ns = last_due_ns;
        frame->due_ns += (uint64_t)((double)size * byte_ns);
        last_due_ns = frame->due_ns;
        frame->next = NULL;
        frame->out = out;
        frame->size = (size_t)size;
        memcpy(frame->data, buffer, (size_t)size);
        *last = frame;
        last = &frame->next;
        queued_bytes += (size_t)size;
    }
}

/* Sends the frames that are due. */
static void frames_send(uint64_t now)
{
    struct frame *frame;

    while (!held && (frame = first) && frame->due_ns <= now) {
        if (send(frame->out, frame->data, frame->size, MSG_DONTWAIT) < 0)
            dropped++;
        queued_bytes -= frame->size;
        first = frame->next;
        if (!first)
            last = &first;
        free(frame);
    }
}

/* Reads commands; returns false at their end. */
static bool commands_read(void)
{
    char text[256];
    double value;
    ssize_t size = read(STDIN_FILENO, text, sizeof text - 1);

    if (size <= 0)
        return size < 0 && errno == EINTR;
    text[size] = '\0';
    held = strcmp(text, "hold\n") == 0;
    if (held)
        return true;
    if (sscanf(text, "delay %lf", &value) == 1 && value >= 0 && value < 60000)
        delay_ns = (uint64_t)(value * 1e6);
    else if (sscanf(text, "rate %lf", &value) == 1 && value >= 0)
        byte_ns = value > 0 ? 8000 / value : 0;
    else
        fprintf(stderr, "fabric-relay: unknown command: %s", text);
    return true;
}

int main(int argc, char **argv)
{
    struct pollfd fds[3] = {{.events = POLLIN}, {.events = POLLIN}, {.events = POLLIN}};
    struct timespec wait;
    uint64_t now, left;

    if (argc != 3) {
        fprintf(stderr, "usage: fabric-relay INTERFACE INTERFACE\n");
        return 2;
    }
    fds[0].fd = port_open(argv[1]);
    fds[1].fd = port_open(argv[2]);
    fds[2].fd = STDIN_FILENO;
    for (;;) {
        now = clock_ns();
        frames_send(now);
        left = first && !held ? first->due_ns - now : 3600000000000u;
        wait = (struct timespec){(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
        if (ppoll(fds, 3, &wait, NULL) < 0 && errno != EINTR)
            return 1;
        port_receive(fds[0].fd, fds[1].fd);
        port_receive(fds[1].fd, fds[0].fd);
        if (fds[2].revents && !commands_read())
            break;
    }
    if (dropped > 0)
        fprintf(stderr, "fabric-relay: dropped %llu frames\n", (unsigned long long)dropped);
    return 0;
}
