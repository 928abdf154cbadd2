// The lab's wide-area network: carries frames between two interfaces with a delay and a rate.
// SPDX-License-Identifier: BSD-3-Clause
//
// usage: wan-relay IF_A IF_B SOCKET [COMMAND]     run the relay; commands arrive at the unix socket
//        wan-relay --ctl SOCKET COMMAND           send a command, print the answer
//
// Commands: "set delay_us=N ab_kbit=N ba_kbit=N" (each optional; delay is one way, rate 0 = no
// limit), "cut" (drop everything), "heal", "status" (a line of JSON).
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX  2048             // the underlay's MTU is 1600; offloads are off
#define SLOTS      8192             // frames in flight in one direction, a power of two
#define BATCH      64               // frames per system call
#define QUEUE_NS   (20 * 1000000LL) // a frame that would wait longer for its turn is dropped
#define SOCKET_RAM (4 << 20)

typedef struct {
    int64_t due;             // CLOCK_MONOTONIC ns at which the frame leaves
    uint32_t len;            // bytes of data
    uint8_t data[FRAME_MAX]; // the Ethernet frame
} relay_frame_t;

typedef struct {
    int in, out;            // packet sockets of the two ends
    uint64_t rate_bps;      // bit/s, 0 = no limit
    int64_t next_free;      // when the line has sent what it took so far
    uint32_t head, tail;    // ring: [head, tail) are waiting
    relay_frame_t *ring;    // SLOTS frames
    uint64_t frames, bytes; // carried
    uint64_t dropped;       // queue full, too long, or line cut
} relay_line_t;

typedef struct {
    relay_line_t line[2]; // a to b, b to a
    int64_t delay_ns;     // one way
    bool cut;             // nothing passes
    int timer, control, epoll;
} relay_t;

static int64_t relay_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void relay_die(const char *what)
{
    fprintf(stderr, "wan-relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

// Opens a packet socket that sees and sends whole frames on interface 'name'.
static int relay_packet_open(const char *name)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1, ram = SOCKET_RAM;
    struct sockaddr_ll ll = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    struct packet_mreq promisc = {.mr_type = PACKET_MR_PROMISC};

    ll.sll_ifindex = promisc.mr_ifindex = (int)if_nametoindex(name);
    if (fd < 0 || ll.sll_ifindex == 0) {
        relay_die(name);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &ram, sizeof(ram));
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &ram, sizeof(ram));
    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
    if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promisc, sizeof(promisc)) ||
        bind(fd, (struct sockaddr *)&ll, sizeof(ll))) {
        relay_die(name);
    }
    return fd;
}

static struct sockaddr_un relay_control_address(const char *path)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};

    snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
    return sun;
}

static int relay_control_open(const char *path)
{
    struct sockaddr_un sun = relay_control_address(path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sun, sizeof(sun)) || listen(fd, 8)) {
        relay_die(path);
    }
    return fd;
}

// Books the line for a frame of 'len' bytes. Returns when it arrives at the far end, 0 = dropped.
static int64_t relay_line_book(relay_line_t *line, uint32_t len, int64_t now, int64_t delay)
{
    int64_t start = line->next_free > now ? line->next_free : now;

    if (start - now > QUEUE_NS) {
        return 0;
    }
    if (line->rate_bps) {
        start += (int64_t)((uint64_t)len * 8 * 1000000000ULL / line->rate_bps);
    }
    line->next_free = start;
    return start + delay;
}

// Takes what the near interface has, up to one batch. Returns whether there may be more.
static bool relay_line_receive(relay_t *relay, relay_line_t *line)
{
    struct mmsghdr msg[BATCH];
    struct iovec iov[BATCH];
    uint32_t room = SLOTS - (line->tail - line->head), n = room < BATCH ? room : BATCH;
    int64_t now;
    int got;

    if (n == 0) {
        return false;
    }
    memset(msg, 0, n * sizeof(msg[0]));
    for (uint32_t i = 0; i < n; i++) {
        iov[i].iov_base = line->ring[(line->tail + i) % SLOTS].data;
        iov[i].iov_len = FRAME_MAX;
        msg[i].msg_hdr.msg_iov = &iov[i];
        msg[i].msg_hdr.msg_iovlen = 1;
    }
    got = recvmmsg(line->in, msg, n, MSG_DONTWAIT | MSG_TRUNC, NULL);
    if (got <= 0) {
        return false;
    }
    now = relay_now();
    uint32_t first = line->tail;
    for (int i = 0; i < got; i++) {
        relay_frame_t *from = &line->ring[(first + (uint32_t)i) % SLOTS];
        relay_frame_t *to = &line->ring[line->tail % SLOTS];
        uint32_t len = msg[i].msg_len;
        int64_t due = 0;

        if (len <= FRAME_MAX && !relay->cut) {
            due = relay_line_book(line, len, now, relay->delay_ns);
        }
        if (due == 0) {
            line->dropped++;
            continue;
        }
        // Dropped frames leave holes in the batch; later ones move up.
        if (to != from) {
            memcpy(to->data, from->data, len);
        }
        to->len = len;
        to->due = due;
        line->tail++;
    }
    return got == (int)n;
}

// Sends every frame that is due. Returns when the next one is, or INT64_MAX.
static int64_t relay_line_send(relay_line_t *line, int64_t now)
{
    struct mmsghdr msg[BATCH];
    struct iovec iov[BATCH];

    while (line->head != line->tail) {
        uint32_t n = 0;
        int sent;

        while (n < BATCH && line->head + n != line->tail) {
            relay_frame_t *f = &line->ring[(line->head + n) % SLOTS];

            if (f->due > now) {
                break;
            }
            iov[n].iov_base = f->data;
            iov[n].iov_len = f->len;
            memset(&msg[n], 0, sizeof(msg[n]));
            msg[n].msg_hdr.msg_iov = &iov[n];
            msg[n].msg_hdr.msg_iovlen = 1;
            n++;
        }
        if (n == 0) {
            return line->ring[line->head % SLOTS].due;
        }
        sent = sendmmsg(line->out, msg, n, MSG_DONTWAIT);
        if (sent <= 0) {
            if (errno == EAGAIN || errno == ENOBUFS) {
                return now + 200000;
            }
            // An interface that is down loses the frame, as a cable would.
            line->dropped++;
            line->head++;
            continue;
        }
        for (int i = 0; i < sent; i++) {
            line->bytes += iov[i].iov_len;
        }
        line->frames += (uint64_t)sent;
        line->head += (uint32_t)sent;
    }
    return INT64_MAX;
}

// Sets the timer to 'due' (INT64_MAX: off).
static void relay_timer_set(relay_t *relay, int64_t due)
{
    struct itimerspec when = {0};

    if (due != INT64_MAX) {
        when.it_value.tv_sec = due / 1000000000LL;
        when.it_value.tv_nsec = due % 1000000000LL;
    }
    timerfd_settime(relay->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static bool relay_settings_change(relay_t *relay, char *args)
{
    char *save = NULL;

    for (char *word = strtok_r(args, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
        unsigned long long value;
        char name[16];

        if (sscanf(word, "%15[a-z_]=%llu", name, &value) != 2) {
            return false;
        }
        if (!strcmp(name, "delay_us") && value <= 10000000) {
            relay->delay_ns = (int64_t)value * 1000;
        } else if (!strcmp(name, "ab_kbit")) {
            relay->line[0].rate_bps = value * 1000;
        } else if (!strcmp(name, "ba_kbit")) {
            relay->line[1].rate_bps = value * 1000;
        } else {
            return false;
        }
    }
    return true;
}

static void relay_status_print(const relay_t *relay, char *out, size_t size)
{
    const relay_line_t *ab = &relay->line[0], *ba = &relay->line[1];

    snprintf(out, size,
             "{\"cut\": %s, \"delay_us\": %lld, \"ab\": {\"kbit\": %llu, \"frames\": %llu, "
             "\"bytes\": %llu, \"dropped\": %llu}, \"ba\": {\"kbit\": %llu, \"frames\": %llu, "
             "\"bytes\": %llu, \"dropped\": %llu}}",
             relay->cut ? "true" : "false", (long long)relay->delay_ns / 1000,
             (unsigned long long)ab->rate_bps / 1000, (unsigned long long)ab->frames,
             (unsigned long long)ab->bytes, (unsigned long long)ab->dropped,
             (unsigned long long)ba->rate_bps / 1000, (unsigned long long)ba->frames,
             (unsigned long long)ba->bytes, (unsigned long long)ba->dropped);
}

// Carries out one command and puts the answer into 'out'.
static void relay_command_run(relay_t *relay, char *cmd, char *out, size_t size)
{
    snprintf(out, size, "ok");
    if (!strncmp(cmd, "set ", 4)) {
        if (!relay_settings_change(relay, cmd + 4)) {
            snprintf(out, size, "error: set takes delay_us=N ab_kbit=N ba_kbit=N");
        }
    } else if (!strcmp(cmd, "cut")) {
        relay->cut = true;
        // Also what is on its way is lost.
        relay->line[0].head = relay->line[0].tail;
        relay->line[1].head = relay->line[1].tail;
    } else if (!strcmp(cmd, "heal")) {
        relay->cut = false;
    } else if (!strcmp(cmd, "status")) {
        relay_status_print(relay, out, size);
    } else {
        snprintf(out, size, "error: unknown command");
    }
}

static void relay_control_serve(relay_t *relay)
{
    int fd = accept4(relay->control, NULL, NULL, SOCK_CLOEXEC);
    struct timeval limit = {.tv_sec = 1};
    char cmd[256], answer[512];
    ssize_t n;

    if (fd < 0) {
        return;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    n = recv(fd, cmd, sizeof(cmd) - 1, 0);
    if (n > 0) {
        cmd[n] = '\0';
        relay_command_run(relay, cmd, answer, sizeof(answer));
        send(fd, answer, strlen(answer), MSG_NOSIGNAL);
    }
    close(fd);
}

static void relay_watch(relay_t *relay, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

    if (epoll_ctl(relay->epoll, EPOLL_CTL_ADD, fd, &ev)) {
        relay_die("epoll_ctl");
    }
}

static void relay_run(relay_t *relay)
{
    for (;;) {
        struct epoll_event ev[4];
        int n = epoll_wait(relay->epoll, ev, 4, -1);
        int64_t next = INT64_MAX;
        uint64_t ticks;

        for (int i = 0; i < n; i++) {
            if (ev[i].data.fd == relay->control) {
                relay_control_serve(relay);
            } else if (ev[i].data.fd == relay->timer) {
                (void)!read(relay->timer, &ticks, sizeof(ticks));
            }
        }
        for (int i = 0; i < 2; i++) {
            for (int rounds = 0; rounds < 8; rounds++) {
                if (!relay_line_receive(relay, &relay->line[i])) {
                    break;
                }
            }
        }
        for (int i = 0; i < 2; i++) {
            int64_t due = relay_line_send(&relay->line[i], relay_now());

            next = due < next ? due : next;
        }
        relay_timer_set(relay, next);
    }
}

static int relay_ctl(const char *path, const char *cmd)
{
    struct sockaddr_un sun = relay_control_address(path);
    struct timeval limit = {.tv_sec = 5};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    char answer[512];
    ssize_t n;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)) ||
        send(fd, cmd, strlen(cmd), MSG_NOSIGNAL) < 0 ||
        (n = recv(fd, answer, sizeof(answer) - 1, 0)) <= 0) {
        relay_die(path);
    }
    answer[n] = '\0';
    puts(answer);
    close(fd);
    return strncmp(answer, "error", 5) ? 0 : 1;
}

int main(int argc, char **argv)
{
    relay_t relay = {0};
    char answer[512];

    if (argc == 4 && !strcmp(argv[1], "--ctl")) {
        return relay_ctl(argv[2], argv[3]);
    }
    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: wan-relay IF_A IF_B SOCKET [COMMAND]\n"
                        "       wan-relay --ctl SOCKET COMMAND\n");
        return 2;
    }
    relay.line[0].in = relay.line[1].out = relay_packet_open(argv[1]);
    relay.line[1].in = relay.line[0].out = relay_packet_open(argv[2]);
    for (int i = 0; i < 2; i++) {
        relay.line[i].ring = calloc(SLOTS, sizeof(relay_frame_t));
        if (!relay.line[i].ring) {
            relay_die("memory");
        }
    }
    relay.control = relay_control_open(argv[3]);
    relay.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    relay.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (relay.timer < 0 || relay.epoll < 0) {
        relay_die("timer");
    }
    relay_watch(&relay, relay.line[0].in);
    relay_watch(&relay, relay.line[1].in);
    relay_watch(&relay, relay.timer);
    relay_watch(&relay, relay.control);
    if (argc == 5) {
        relay_command_run(&relay, argv[4], answer, sizeof(answer));
        if (!strncmp(answer, "error", 5)) {
            fprintf(stderr, "wan-relay: %s\n", answer);
            return 2;
        }
    }
    prctl(PR_SET_TIMERSLACK, 1);
    setpriority(PRIO_PROCESS, 0, -10);
    relay_run(&relay);
    return 0;
}
