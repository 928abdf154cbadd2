/* Measures memory per peer and the time of a switch of one rank with many links, for bench-memory.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "core.h"

/* usage: link-probe LINKS DIRECTORY
 *
 * One core, as a rank has it, with links to so many others, which are cores too but share a second
 * process. Prints NAME,LINKS,VALUE lines; bytes are the private memory of the one core's process,
 * without what the kernel keeps for its sockets; cpu_us is its processor time for a switch, in
 * which the application is elsewhere, so that the control thread does the work and nobody polls.
 * DIRECTORY takes the control sockets. */

#define LINKS_MAX 4096
#define LIMIT_MS  60000
#define SWITCHES  10

static unsigned long received;

static void receive(struct ninja_link *link, uint8_t tag, const void *payload, size_t size)
{
    received++;
}

static void lost(struct ninja_link *link, int error)
{
    fprintf(stderr, "link-probe: a peer is lost\n");
    exit(1);
}

static void fail(const char *what)
{
    fprintf(stderr, "link-probe: %s\n", what);
    exit(1);
}

static struct ninja_core *make_core(unsigned id, const char *directory)
{
    static const struct ninja_callbacks callbacks = {.receive = receive, .lost = lost};
    static struct ninja_tuning tuning; /* the same for all */
    struct ninja_config config;
    struct ninja_core *core = NULL;
    char name[32], why[256] = "";

    ninja_config_default(&config);
    config.lifeline = "lo";
    config.fabrics = "fast=tcp@lo";
    config.control_dir = directory;
    config.agent = NINJA_AGENT_NONE;
    config.tuning = &tuning;
    ninja_tuning_default(&tuning);
    tuning.verbose = -1;
    snprintf(name, sizeof name, "1.%u", id);
    if (ninja_core_create(&core, &config, &callbacks, id, name, why, sizeof why) != 0 ||
        ninja_core_start(core, why, sizeof why) != 0)
        fail(why);
    return core;
}

/* The other process: tells the contacts of its cores, then serves them until it is killed. */
static void serve(unsigned count, const char *directory, int to_parent)
{
    static struct ninja_core *cores[LINKS_MAX];
    unsigned char contact[NINJA_CONTACT_MAX] = {0};
    size_t size;

    for (unsigned i = 0; i < count; i++) {
        cores[i] = make_core(i + 2, directory);
        (void)ninja_core_contact(cores[i], contact, &size);
        if (write(to_parent, &size, sizeof size) != sizeof size ||
            write(to_parent, contact, sizeof contact) != sizeof contact)
            exit(1);
    }
    while (getppid() != 1)
        for (unsigned i = 0; i < count; i++)
            (void)ninja_core_progress(cores[i]);
    exit(0);
}

/* Private memory of this process in bytes. */
static double memory(void)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    double bytes = 0, value;

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "Private_Clean: %lf", &value) == 1 ||
            sscanf(line, "Private_Dirty: %lf", &value) == 1)
            bytes += value * 1024;
    if (file != NULL)
        fclose(file);
    return bytes;
}

static void progress_ms(struct ninja_core *core, unsigned milliseconds)
{
    uint64_t end = ninja_now_ms() + milliseconds;

    while (ninja_now_ms() < end)
        (void)ninja_core_progress(core);
}

/* Links whose half is on the fabric. */
static unsigned links_up(const struct ninja_core *core)
{
    unsigned up = 0;

    for (const struct ninja_link *link = core->links; link != NULL; link = link->next)
        up += link->send_path != &link->lifeline_path;
    return up;
}

static size_t retained(const struct ninja_core *core)
{
    size_t bytes = 0;

    for (const struct ninja_link *link = core->links; link != NULL; link = link->next)
        bytes += link->data.retained_bytes + link->control.retained_bytes;
    return bytes;
}

static double cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Gives up the fabric or takes it again; adds to *ms how long it takes until all links have moved,
 * and to *cpu the processor time of this process for it. */
static void move_links(struct ninja_core *core, bool up, unsigned count, double *ms, double *cpu)
{
    struct ninja_fabric *fabric = &core->fabrics[0];
    uint64_t start = ninja_now_ns(), limit = ninja_now_ms() + LIMIT_MS;
    double cpu_start = cpu_us();

    ninja_control_enter(core);
    ninja_fabric_handle(fabric, up ? NINJA_FABRIC_RESUME : NINJA_FABRIC_RELEASE, 0);
    ninja_control_leave(core);
    while (up ? links_up(core) < count : fabric->state != NINJA_FABRIC_DOWN) {
        usleep(200);
        if (ninja_now_ms() > limit)
            fail("the links did not move in time");
    }
    *ms += (double)(ninja_now_ns() - start) / 1e6;
    usleep(20000); /* what follows of it: acknowledgements */
    *cpu += cpu_us() - cpu_start;
}

static void no_completion(void *context, int status)
{
}

/* Sends `size` bytes on each link; returns how many links took it. */
static unsigned send_all(struct ninja_core *core, size_t size)
{
    unsigned sent = 0;

    for (struct ninja_link *link = core->links; link != NULL; link = link->next) {
        struct ninja_frame *frame;

        if (ninja_core_congested(link) || (frame = ninja_core_frame_new(core, size)) == NULL)
            continue;
        memset(frame->data, 1, size);
        frame->inline_length = (uint32_t)size;
        (void)ninja_core_send(link, frame, 1, no_completion, NULL);
        sent++;
    }
    return sent;
}

static void wait_acknowledged(struct ninja_core *core)
{
    uint64_t limit = ninja_now_ms() + LIMIT_MS;

    while (retained(core) > 0) {
        (void)ninja_core_progress(core);
        if (ninja_now_ms() > limit)
            fail("peers did not acknowledge in time");
    }
}

int main(int argc, char **argv)
{
    unsigned count = argc > 2 ? (unsigned)atoi(argv[1]) : 0;
    struct ninja_core *core;
    double before, idle, down = 0, up = 0, cpu_down = 0, cpu_up = 0;
    size_t most;
    int pipe_fds[2];
    pid_t child;

    if (count < 1 || count > LINKS_MAX || pipe(pipe_fds) != 0)
        fail("link-probe LINKS DIRECTORY");
    child = fork();
    if (child == 0)
        serve(count, argv[2], pipe_fds[1]);
    core = make_core(1, argv[2]);
    progress_ms(core, 100);
    before = memory();
    for (unsigned i = 0; i < count; i++) {
        unsigned char contact[NINJA_CONTACT_MAX];
        size_t size;

        if (read(pipe_fds[0], &size, sizeof size) != sizeof size ||
            read(pipe_fds[0], contact, sizeof contact) != sizeof contact ||
            ninja_core_connect(core, i + 2, contact, size, NULL) == NULL)
            fail("no contact of a peer");
    }
    /* A link opens its path when it has traffic. */
    if (send_all(core, 8) < count)
        fail("a link takes no message");
    while (links_up(core) < count)
        progress_ms(core, 1);
    progress_ms(core, 500);
    wait_acknowledged(core);
    idle = memory();
    printf("idle_bytes_per_link,%u,%.0f\n", count, (idle - before) / count);

    for (unsigned i = 0; i < SWITCHES; i++) {
        usleep(200000); /* so long the control thread leaves events to the application */
        move_links(core, false, count, &down, &cpu_down);
        usleep(200000);
        move_links(core, true, count, &up, &cpu_up);
        (void)send_all(core, 8); /* so that it stays a link with traffic */
        wait_acknowledged(core);
    }
    printf("down_ms,%u,%.3f\nup_ms,%u,%.3f\n", count, down / SWITCHES, count, up / SWITCHES);
    printf("down_cpu_us,%u,%.1f\nup_cpu_us,%u,%.1f\n", count, cpu_down / SWITCHES, count,
           cpu_up / SWITCHES);

    for (unsigned i = 0; i < 1000; i++) {
        (void)send_all(core, 1024);
        (void)ninja_core_progress(core);
    }
    printf("active_bytes_per_link,%u,%.0f\n", count, (memory() - before) / count);
    wait_acknowledged(core);

    /* Peers that take nothing: each link keeps what its limit allows, and no more. */
    kill(child, SIGSTOP);
    while (send_all(core, 65536) > 0)
        (void)ninja_core_progress(core);
    most = retained(core);
    printf("retained_bytes_per_link,%u,%.0f\n", count, (double)most / count);
    printf("stopped_bytes_per_link,%u,%.0f\n", count, (memory() - before) / count);
    kill(child, SIGCONT);
    wait_acknowledged(core);
    progress_ms(core, 2500); /* what is not needed for a second is given back */
    printf("after_bytes_per_link,%u,%.0f\n", count, (memory() - before) / count);
    kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    fflush(stdout);
    _exit(most / count >
          core->config.tuning->retain_high + (1U << 20)); /* peers are gone: no farewell */
}
