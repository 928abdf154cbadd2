/* symvirt-agentd: one per VM; frees and gives back the devices of fabrics when the host asks.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

static const char usage_text[] =
    "usage: symvirt-agentd [options]\n"
    "\n"
    "Runs in a VM, in the foreground. When the host asks, it frees the RDMA device of\n"
    "a fabric: withholds its node, asks the registered processes to give it up, proves\n"
    "that nobody holds it; and gives it back to them later.\n"
    "\n"
    "  --port PATH       channel to the host: a virtio-serial port or a unix socket\n"
    "                    (default: " SYMVIRT_PORT_PATH ")\n"
    "  --socket PATH     where processes register\n"
    "                    (default: " SYMVIRT_AGENT_SOCKET ")\n"
    "  --config FILE     which device belongs to which fabric, if the host does not say\n"
    "                    (default: /etc/symvirt/fabrics.json, need not exist)\n"
    "  --release-ms N    limit for a release (default: 5000)\n"
    "  --process-ms N    limit for the processes' part of it (default: 2000)\n"
    "  --resume-ms N     limit for a device to become usable (default: 120000)\n"
    "  --run DIR, --dev DIR, --sys DIR, --proc DIR\n"
    "                    directories other than /run/symvirt, /dev, /sys, /proc\n"
    "  --help, --version\n"
    "\n"
    "It ends at SIGTERM or SIGINT and looks at the devices again at SIGHUP. What is released stays "
    "released: the next agent goes\n"
    "on from DIR/state.json.\n";

int agent_poll_add(struct agent *agent, int fd, uint32_t events, uint64_t id)
{
    struct epoll_event event = {.events = events, .data.u64 = id};

    return epoll_ctl(agent->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int parse_milliseconds(const char *option, const char *text)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (end == text || *end || value < 1 || value > 86400000) {
        fprintf(stderr, "symvirt-agentd: --%s needs a number of milliseconds, not '%s'\n", option,
                text);
        exit(2);
    }
    return (int)value;
}

static void parse_options(struct agent_options *options, int argc, char **argv)
{
    static const struct option known[] = {
        {"port", required_argument, NULL, 'p'},
        {"socket", required_argument, NULL, 's'},
        {"config", required_argument, NULL, 'c'},
        {"release-ms", required_argument, NULL, 1},
        {"process-ms", required_argument, NULL, 2},
        {"resume-ms", required_argument, NULL, 3},
        {"run", required_argument, NULL, 4},
        {"dev", required_argument, NULL, 5},
        {"sys", required_argument, NULL, 6},
        {"proc", required_argument, NULL, 7},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    int option, index = 0;

    while ((option = getopt_long(argc, argv, "h", known, &index)) != -1) {
        switch (option) {
        case 'p':
            options->port = optarg;
            break;
        case 's':
            options->socket = optarg;
            break;
        case 'c':
            options->config = optarg;
            break;
        case 1:
            options->release_ms = parse_milliseconds(known[index].name, optarg);
            break;
        case 2:
            options->process_ms = parse_milliseconds(known[index].name, optarg);
            break;
        case 3:
            options->resume_ms = parse_milliseconds(known[index].name, optarg);
            break;
        case 4:
            options->roots.run = optarg;
            break;
        case 5:
            options->roots.dev = optarg;
            break;
        case 6:
            options->roots.sys = optarg;
            break;
        case 7:
            options->roots.proc = optarg;
            break;
        case 'h':
            fputs(usage_text, stdout);
            exit(0);
        case 'V':
            puts("symvirt-agentd " PACKAGE_VERSION);
            exit(0);
        default:
            exit(2);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "symvirt-agentd: unexpected '%s'; see --help\n", argv[optind]);
        exit(2);
    }
}

/* A descriptor that becomes readable when the agent is to end. */
static int open_signals(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Milliseconds until something is due; -1: only events. */
static int next_timeout(const struct agent *agent)
{
    int64_t due[] = {operation_next_look(agent), channel_next_tick(agent), ranks_next_look(agent),
                     agent->rescan_at ? agent->rescan_at : -1};
    int64_t first = -1, now = symvirt_now_ms();

    for (size_t i = 0; i < sizeof(due) / sizeof(due[0]); i++)
        if (due[i] >= 0 && (first < 0 || due[i] < first))
            first = due[i];
    if (first < 0)
        return -1;
    return first <= now ? 0 : (int)(first - now);
}

/* SIGHUP: look at the devices again. Returns 1 for the others: the agent is to end. */
static int on_signal(struct agent *agent)
{
    struct signalfd_siginfo info;

    if (read(agent->signal_fd, &info, sizeof(info)) != sizeof(info))
        return 0;
    if (info.ssi_signo == SIGHUP)
        fabrics_on_event(agent);
    return info.ssi_signo != SIGHUP;
}

/* Returns 1 when the agent is to end. */
static int dispatch(struct agent *agent, const struct epoll_event *event)
{
    switch (event->data.u64) {
    case POLL_SIGNAL:
        return on_signal(agent);
    case POLL_LISTEN:
        registry_accept(agent);
        break;
    case POLL_CHANNEL:
        channel_on_poll(agent, event->events);
        break;
    case POLL_EVENTS:
        if (events_read(agent->events_fd))
            fabrics_on_event(agent);
        break;
    case POLL_ROUTE:
        if (events_read(agent->route_fd))
            fabrics_on_event(agent);
        break;
    default:
        registry_on_poll(agent, event->data.u64, event->events);
    }
    return 0;
}

static void run(struct agent *agent)
{
    struct epoll_event events[16];
    int ended = 0;

    while (!ended) {
        int count = epoll_wait(agent->epoll_fd, events, 16, next_timeout(agent));

        for (int i = 0; i < count; i++)
            ended |= dispatch(agent, &events[i]);
        if (agent->rescan_at && symvirt_now_ms() >= agent->rescan_at)
            fabrics_rescan(agent);
        registry_sweep(agent);
        operation_step(agent);
        ranks_step(agent);
        channel_tick(agent);
    }
}

/* Two descriptors for each process, and what a look at /proc takes: without them, nothing is seen.
 */
static void raise_descriptor_limit(void)
{
    const rlim_t wanted = 2 * PROCESSES_MAX + 256;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur < wanted)
        agent_log("only %llu files may be open (ulimit -n): with many processes that is too few",
                  (unsigned long long)limit.rlim_cur);
}

/* Opens what the agent needs. Returns 0 or a negative errno after a logged line. */
static int start(struct agent *agent)
{
    int rc;

    if (mkdir(agent->options.roots.run, 0755) && errno != EEXIST) {
        agent_log("cannot make %s: %s", agent->options.roots.run, strerror(errno));
        return -errno;
    }
    rc = fabrics_load(agent);
    if (rc)
        return rc;
    agent->signal_fd = open_signals();
    agent->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (agent->epoll_fd < 0 || agent->signal_fd < 0 ||
        agent_poll_add(agent, agent->signal_fd, EPOLLIN, POLL_SIGNAL))
        return -errno;
    rc = registry_open(agent);
    if (rc) {
        agent_log("cannot listen on %s: %s", agent->options.socket, strerror(-rc));
        return rc;
    }
    rc = events_open(agent);
    if (rc) {
        agent_log("cannot listen to kernel events: %s", strerror(-rc));
        return rc;
    }
    rc = channel_create(agent);
    if (!rc)
        state_load(agent);
    return rc;
}

int main(int argc, char **argv)
{
    struct agent agent = {
        .options =
            {
                .port = SYMVIRT_PORT_PATH,
                .socket = SYMVIRT_AGENT_SOCKET,
                .config = "/etc/symvirt/fabrics.json",
                .roots = {.dev = "/dev", .sys = "/sys", .proc = "/proc", .run = "/run/symvirt"},
                .release_ms = SYMVIRT_AGENT_TIMEOUT_MS,
                .process_ms = SYMVIRT_PROCESS_TIMEOUT_MS,
                .resume_ms = 120000,
            },
        .listen_fd = -1,
        .results = json_array(),
        .started = symvirt_now_ms(),
    };
    int rc;

    parse_options(&agent.options, argc, argv);
    raise_descriptor_limit();
    rc = start(&agent);
    if (!rc) {
        agent_log("ready, version " PACKAGE_VERSION);
        run(&agent);
        agent_log("ends");
    }
    channel_destroy(&agent);
    registry_close(&agent);
    json_decref(agent.results);
    return rc ? 1 : 0;
}
