/* Measures from outside how long the ranks of a job stand still, by the gaps in their heartbeats.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "heartbeat.h"
#include "observer-table.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char usage_text[] =
    "usage: ninja-observer [--listen ADDRESS] [--csv FILE] [--json FILE] [--duration SECONDS]\n"
    "       ninja-observer --report ADDRESS\n"
    "       ninja-observer --mark ADDRESS LABEL | --unmark ADDRESS LABEL\n"
    "\n"
    "Receives the heartbeats of ninja-soak (UDP, one per rank and 10 ms) and measures the gaps\n"
    "between them by its own clock. Run it on a machine that is not moved. It ends at SIGTERM or\n"
    "SIGINT, or after the duration, and writes what it saw as JSON; SIGUSR1 writes it at once.\n"
    "ADDRESS is HOST:PORT, [IPV6]:PORT or HOST; the port is 7510 if not given.\n"
    "\n"
    "  --listen ADDRESS   where to receive (default 0.0.0.0:7510; port 0 takes a free one)\n"
    "  --csv FILE         write a line for each heartbeat: time of day, job, rank, kind,\n"
    "                     gap before it in seconds, messages and bytes verified so far\n"
    "  --json FILE        write the result to FILE instead of standard output\n"
    "  --port-file FILE   write the number of the port to FILE once it is open\n"
    "  --duration SECONDS end after this time\n"
    "  --report ADDRESS   ask a running observer for its summary (JSON)\n"
    "  --mark ADDRESS LABEL, --unmark ADDRESS LABEL\n"
    "                     tell a running observer that a window of time named LABEL starts or\n"
    "                     ends; the answer to --unmark, and the result at the end, have the\n"
    "                     longest stall in it. Letters, digits and ._:- are allowed.\n";

/* What the command line asked for. */
struct options {
    const char *listen, *csv, *json, *port_file;
    double duration;
};

struct observer {
    struct observer_table table;
    int fd;
    FILE *csv;
    uint64_t csv_flushed_ns;
};

static uint64_t wall_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Opens the socket on which heartbeats arrive; returns it, or -1 after printing why not. */
static int observer_listen(const char *address)
{
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_PASSIVE}, *list;
    char copy[256], *host = copy, *port;
    int fd, status, on = 1, size = 4 << 20;

    snprintf(copy, sizeof copy, "%s", address);
    port = strrchr(copy, ':');
    if (*copy == '[' && port > copy && port[-1] == ']') {
        host++;
        port[-1] = '\0';
    }
    if (port)
        *port++ = '\0';
    status = getaddrinfo(host, port ? port : HEARTBEAT_DEFAULT_PORT, &hints, &list);
    if (status != 0) {
        fprintf(stderr, "ninja-observer: %s: %s\n", address, gai_strerror(status));
        return -1;
    }
    fd = socket(list->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, list->ai_addr, list->ai_addrlen) < 0) {
        fprintf(stderr, "ninja-observer: %s: %s\n", address, strerror(errno));
        if (fd >= 0)
            close(fd);
        fd = -1;
    } else {
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    }
    freeaddrinfo(list);
    return fd;
}

/* Returns when the kernel received the message, by the monotonic clock: on a busy machine this
 * program itself may run late, and that must not look like a stall of the ranks. */
static uint64_t arrival_time(struct msghdr *message)
{
    uint64_t now = heartbeat_clock(), wall = wall_clock(), stamp;
    struct cmsghdr *control;
    struct timespec time;

    for (control = CMSG_FIRSTHDR(message); control; control = CMSG_NXTHDR(message, control)) {
        if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_TIMESTAMPNS)
            continue;
        memcpy(&time, CMSG_DATA(control), sizeof time);
        stamp = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
        /* A step of the clock in between makes the stamp worthless. */
        if (stamp <= wall && wall - stamp < 5000000000u)
            return now - (wall - stamp);
    }
    return now;
}

/* Carries out a request and sends the answer. */
static void observer_answer(struct observer *observer, const struct heartbeat_frame *frame,
                            const struct sockaddr *to, socklen_t to_size, uint64_t now)
{
    const struct observer_window *window;
    char label[HEARTBEAT_LABEL_SIZE], *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    int status = 0;

    if (!out)
        return;
    memcpy(label, frame->label, sizeof label);
    label[sizeof label - 1] = '\0';
    switch (ntohs(frame->kind)) {
    case HEARTBEAT_REPORT:
        observer_table_print_summary(&observer->table, be64toh(frame->job), now, out);
        break;
    case HEARTBEAT_MARK:
        status = observer_table_mark(&observer->table, label, now);
        if (status == 0)
            fputs("{}\n", out);
        else
            fprintf(out, "{\"error\": \"%s\"}\n",
                    status == EINVAL ? "the label is not valid" : "there are too many windows");
        break;
    default:
        window = observer_table_unmark(&observer->table, label, now);
        if (window)
            observer_table_print_window(&observer->table, window, now, out);
        else
            fputs("{\"error\": \"no such window was started\"}", out);
        fputc('\n', out);
    }
    fclose(out);
    if (text && sendto(observer->fd, text, size, MSG_DONTWAIT, to, to_size) < 0)
        fprintf(stderr, "ninja-observer: cannot answer: %s\n", strerror(errno));
    free(text);
}

static void observer_write_csv(struct observer *observer, const struct observer_source *source,
                               unsigned kind, uint64_t gap_ns, uint64_t now)
{
    static const char *const names[] = {"", "work", "alive", "pause", "end"};
    uint64_t wall = now + (uint64_t)observer->table.wall_offset_ns;

    fprintf(observer->csv,
            "%" PRIu64 ".%06" PRIu64 ",%016" PRIx64 ",%" PRIu32 ",%s,%.6f,%" PRIu64 ",%" PRIu64
            "\n",
            wall / 1000000000u, wall / 1000u % 1000000u, source->job, source->rank, names[kind],
            (double)gap_ns / 1e9, source->messages, source->bytes);
    if (now - observer->csv_flushed_ns > 1000000000u) {
        fflush(observer->csv);
        observer->csv_flushed_ns = now;
    }
}

/* Takes in one datagram; returns false when none is left. */
static bool observer_receive(struct observer *observer)
{
    struct heartbeat_frame frame;
    struct sockaddr_storage from;
    char control[128];
    struct iovec vector = {.iov_base = &frame, .iov_len = sizeof frame};
    struct msghdr message = {
        .msg_name = &from,
        .msg_namelen = sizeof from,
        .msg_iov = &vector,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    const struct observer_source *source;
    ssize_t got = recvmsg(observer->fd, &message, MSG_DONTWAIT);
    uint64_t now, gap_ns;
    unsigned kind;

    if (got < 0)
        return errno == EINTR || errno == ECONNREFUSED;
    if (got != sizeof frame || message.msg_flags & MSG_TRUNC ||
        frame.magic != htonl(HEARTBEAT_MAGIC) || frame.version != htons(HEARTBEAT_VERSION))
        return true;
    now = arrival_time(&message);
    kind = ntohs(frame.kind);
    if (kind >= HEARTBEAT_WORK && kind <= HEARTBEAT_END) {
        source = observer_table_note(&observer->table, &frame, now, &gap_ns);
        if (source && observer->csv)
            observer_write_csv(observer, source, kind, gap_ns, now);
    } else if (kind >= HEARTBEAT_REPORT && kind <= HEARTBEAT_UNMARK) {
        observer_answer(observer, &frame, (struct sockaddr *)&from, message.msg_namelen, now);
    }
    return true;
}

static int observer_write_result(struct observer *observer, const char *path)
{
    FILE *out = path ? fopen(path, "w") : stdout;
    int status = 0;

    if (!out) {
        fprintf(stderr, "ninja-observer: %s: %s\n", path, strerror(errno));
        return 1;
    }
    observer_table_print(&observer->table, heartbeat_clock(), out);
    if (fflush(out) != 0 || ferror(out)) {
        fprintf(stderr, "ninja-observer: %s: %s\n", path ? path : "output", strerror(errno));
        status = 1;
    }
    if (path)
        fclose(out);
    return status;
}

/* Prints the port that was opened, for those who asked for a free one. */
static int observer_announce(int fd, const char *port_file)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    char port[NI_MAXSERV] = "";
    FILE *out;

    getsockname(fd, (struct sockaddr *)&address, &size);
    getnameinfo((struct sockaddr *)&address, size, NULL, 0, port, sizeof port,
                NI_NUMERICSERV | NI_DGRAM);
    if (!port_file)
        return 0;
    out = fopen(port_file, "w");
    if (!out || fprintf(out, "%s\n", port) < 0 || fclose(out) != 0) {
        fprintf(stderr, "ninja-observer: %s: %s\n", port_file, strerror(errno));
        return -1;
    }
    return 0;
}

/* Receives until a signal or the end of the duration. */
static int observer_loop(struct observer *observer, const struct options *options, int signals)
{
    uint64_t end = 0, now;
    struct pollfd fds[2] = {{.fd = observer->fd, .events = POLLIN},
                            {.fd = signals, .events = POLLIN}};
    struct signalfd_siginfo info;
    int timeout = -1;

    if (options->duration > 0)
        end = heartbeat_clock() + (uint64_t)(options->duration * 1e9);
    for (;;) {
        if (end) {
            now = heartbeat_clock();
            if (now >= end)
                return 0;
            timeout = end - now > 3600000000000u ? 3600000 : (int)((end - now) / 1000000u) + 1;
        }
        if (poll(fds, 2, timeout) < 0 && errno != EINTR)
            return errno;
        while (observer_receive(observer))
            ;
        if (fds[1].revents && read(signals, &info, sizeof info) == sizeof info) {
            if (info.ssi_signo != SIGUSR1)
                return 0;
            observer_write_result(observer, options->json);
        }
    }
}

static int observer_run(const struct options *options)
{
    struct observer observer = {.fd = -1};
    int signals, status = 1;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signals = signalfd(-1, &set, SFD_CLOEXEC);
    observer.table.wall_offset_ns = (int64_t)(wall_clock() - heartbeat_clock());
    observer.fd = observer_listen(options->listen);
    if (observer.fd < 0 || signals < 0 || observer_announce(observer.fd, options->port_file) < 0)
        goto out;
    if (options->csv) {
        observer.csv = fopen(options->csv, "w");
        if (!observer.csv) {
            fprintf(stderr, "ninja-observer: %s: %s\n", options->csv, strerror(errno));
            goto out;
        }
        fputs("time,job,rank,kind,gap_s,messages,bytes\n", observer.csv);
    }
    status = observer_loop(&observer, options, signals);
    if (status != 0)
        fprintf(stderr, "ninja-observer: %s\n", strerror(status));
    status |= observer_write_result(&observer, options->json);
out:
    if (observer.csv && fclose(observer.csv) != 0) {
        fprintf(stderr, "ninja-observer: %s: %s\n", options->csv, strerror(errno));
        status = 1;
    }
    if (observer.fd >= 0)
        close(observer.fd);
    observer_table_clear(&observer.table);
    return status ? 1 : 0;
}

/* Sends one request to a running observer and prints its answer. */
static int request_run(enum heartbeat_kind kind, const char *address, const char *label)
{
    int fd = heartbeat_connect(address), status;
    char answer[4096];

    if (fd < 0)
        return 1;
    status = heartbeat_request(fd, kind, 0, label, answer, sizeof answer);
    close(fd);
    if (status < 0) {
        fprintf(stderr, "ninja-observer: no answer from an observer at %s\n", address);
        return 1;
    }
    if (strncmp(answer, "{\"error\"", 8) == 0) {
        fprintf(stderr, "ninja-observer: %s: %s", label ? label : "", answer);
        return 1;
    }
    if (kind != HEARTBEAT_MARK)
        fputs(answer, stdout);
    return 0;
}

int main(int argc, char **argv)
{
    enum { LISTEN = 1, CSV, JSON, PORT_FILE, DURATION, REPORT, MARK, UNMARK };
    static const struct option table[] = {
        {"listen", required_argument, NULL, LISTEN},
        {"csv", required_argument, NULL, CSV},
        {"json", required_argument, NULL, JSON},
        {"port-file", required_argument, NULL, PORT_FILE},
        {"duration", required_argument, NULL, DURATION},
        {"report", required_argument, NULL, REPORT},
        {"mark", required_argument, NULL, MARK},
        {"unmark", required_argument, NULL, UNMARK},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct options options = {.listen = "0.0.0.0:" HEARTBEAT_DEFAULT_PORT};
    enum heartbeat_kind request = 0;
    const char *address = NULL;
    char *end;
    int option;

    while ((option = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        switch (option) {
        case LISTEN:
            options.listen = optarg;
            break;
        case CSV:
            options.csv = optarg;
            break;
        case JSON:
            options.json = optarg;
            break;
        case PORT_FILE:
            options.port_file = optarg;
            break;
        case DURATION:
            options.duration = strtod(optarg, &end);
            if (*end || !(options.duration > 0)) {
                fprintf(stderr, "ninja-observer: --duration '%s': not a time in seconds\n", optarg);
                return 2;
            }
            break;
        case REPORT:
            request = HEARTBEAT_REPORT;
            address = optarg;
            break;
        case MARK:
            request = HEARTBEAT_MARK;
            address = optarg;
            break;
        case UNMARK:
            request = HEARTBEAT_UNMARK;
            address = optarg;
            break;
        case 'h':
            fputs(usage_text, stdout);
            return 0;
        default:
            fputs("Try 'ninja-observer --help'.\n", stderr);
            return 2;
        }
    }
    if (argc - optind != (request == HEARTBEAT_MARK || request == HEARTBEAT_UNMARK)) {
        fputs("ninja-observer: wrong number of arguments; try 'ninja-observer --help'\n", stderr);
        return 2;
    }
    if (request)
        return request_run(request, address, argv[optind]);
    return observer_run(&options);
}
