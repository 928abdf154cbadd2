/* The agent's parts and what they share.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * One thread, one epoll loop (agentd.c). Everything that happens ends in operation_step(), which
 * looks at the world and moves the one operation that may be running from phase to phase.
 */
#ifndef AGENT_H
#define AGENT_H

#include <stdint.h>
#include <sys/types.h>
#include <jansson.h>

#include "devices.h"
#include "holders.h"
#include "roots.h"
#include "stream.h"
#include "symvirt.h"

#define FABRICS_MAX           16
#define PROCESSES_MAX         1024
#define PROCESSES_OF_USER_MAX (PROCESSES_MAX * 3 / 4) /* some are left for others */
#define RESULTS_MAX           4

/* --- Fabrics (fabrics.c) --------------------------------------------------------------------- */

enum fabric_state {
    FABRIC_ABSENT,   /* no device that is ACTIVE; processes do not know of it */
    FABRIC_PRESENT,  /* processes may use it */
    FABRIC_RELEASED, /* given up: nobody may use it until the host resumes it, there or not */
};

struct fabric_entry {
    struct symvirt_fabric id; /* 'device' is the RDMA device there now, or "" */
    char want_device[64];     /* how to tell its device; an empty text matches any */
    char want_netdev[32];
    char want_mac[24];
    char want_pci[16];
    enum fabric_state state;
    uint64_t released_op; /* RELEASED: by which operation */
    char last_device[64]; /* what its device was called when it was last there, or "" */
    char withheld[32];    /* its node, that the last release has withheld, or "" */
};

/* --- Processes (registry.c) ------------------------------------------------------------------- */

struct process {
    struct process *next;
    struct agent *agent;
    uint64_t id; /* in epoll; the odd number behind it is its end's */
    int end_fd;  /* readable when the process has ended, or -1 */
    struct symvirt_stream stream;
    int polled_for_write;
    pid_t pid; /* by the kernel's word, not the process's */
    uid_t user;
    char name[64];
    int registered;
    uint64_t asked_op; /* the question under way; 0: none */
    int answered;
    int error; /* of the answer */
    char message[128];
};

/* --- The operation (operation.c) -------------------------------------------------------------- */

enum phase {
    PHASE_IDLE,
    PHASE_CHECKING, /* release: fence is up; does a process that is not registered hold the device?
                     */
    PHASE_ASKING,   /* release: registered processes were asked */
    PHASE_PROVING,  /* release: nobody may hold the device now */
    PHASE_WAITING,  /* resume: for the device, its port and its node */
    PHASE_TELLING,  /* resume: processes were told */
    PHASES
};

struct operation {
    enum phase phase;
    uint64_t op;
    enum symvirt_message_type type;
    struct fabric_entry *fabric;
    int64_t deadline;    /* of the whole operation */
    int64_t phase_limit; /* of the phase */
    int64_t look_again;  /* when to look without an event; 0: not needed */
    int asked;           /* release: processes were told to give the device up */
    char last_progress[160];
};

/* --- Links of processes (ranks.c) ------------------------------------------------------------- */

/* The one question of the host that may be open. */
struct links_question {
    uint64_t host_op; /* 0: none */
    uint64_t op;      /* ours, to the process */
    uint64_t process;
    pid_t pid;
    char name[64];
    int64_t deadline;
};

struct agent_options {
    const char *port;   /* character device or unix socket to the host */
    const char *socket; /* where processes register */
    const char *config; /* fabrics.json */
    struct roots roots;
    int release_ms; /* limits */
    int process_ms;
    int resume_ms;
};

struct channel;

struct agent {
    struct agent_options options;
    int epoll_fd;
    int64_t started;
    struct rdma_device_list devices;
    unsigned fabric_count;
    struct fabric_entry fabrics[FABRICS_MAX];
    int signal_fd;
    int listen_fd;
    uint64_t last_process;
    uint64_t last_ask; /* numbers of our questions to processes */
    struct process *processes;
    struct operation operation;
    struct links_question question;
    json_t *results; /* the last few result messages, for a host that missed them: an array, oldest
                        first */
    struct channel *channel;
    int events_fd; /* kernel events */
    int route_fd;
    int64_t rescan_at; /* devices are to be looked at again; 0: when an event comes */
    int64_t rescan_until;
};

/* Epoll data of what is not a process. */
enum {
    POLL_LISTEN = 1,
    POLL_CHANNEL,
    POLL_EVENTS,
    POLL_ROUTE,
    POLL_SIGNAL,
    POLL_FIRST_PROCESS = 16
};

/* Adds 'fd' to the loop. Returns 0 or a negative errno. */
int agent_poll_add(struct agent *agent, int fd, uint32_t events, uint64_t id);

/* fabrics.c */

const char *fabric_state_name(enum fabric_state state);

/* Reads options.config; a missing file is fine. Returns 0 or a negative errno, after a logged line.
 */
int fabrics_load(struct agent *agent);

/* The fabric that a message names, known or made; 'object' passed symvirt_message_check(). With
 * 'update', epoch and the way to tell its device are taken over. NULL if there is no room. */
struct fabric_entry *fabrics_get(struct agent *agent, const json_t *object, int update);

/* Is it said by which name or address to know the fabric's device? */
int fabrics_told_apart(const struct fabric_entry *fabric);

/* The device of 'fabric' that is there now, or NULL. */
const struct rdma_device *fabrics_device(const struct agent *agent,
                                         const struct fabric_entry *fabric);

/* An event came: scans now, and again while a device is coming up. */
void fabrics_on_event(struct agent *agent);

/* Scans devices again; tells the host what changed, and processes what they may use. */
void fabrics_rescan(struct agent *agent);

/* An array with all fabrics for status and HELLO (new reference). */
json_t *fabrics_describe(const struct agent *agent);

/* registry.c */

/* Opens the socket for processes. Returns 0 or a negative errno. */
int registry_open(struct agent *agent);

void registry_close(struct agent *agent);

/* Accepts new connections. */
void registry_accept(struct agent *agent);

/* Something happened on the connection 'id'. */
void registry_on_poll(struct agent *agent, uint64_t id, uint32_t events);

/* Closes connections that came to their end. */
void registry_sweep(struct agent *agent);

/* Asks all registered processes ('type' is release or resume) about 'fabric'. */
void registry_ask(struct agent *agent, enum symvirt_message_type type,
                  const struct symvirt_fabric *fabric);

/* Takes the questions back: abort to those that did not answer yet. */
void registry_abort(struct agent *agent);

/* Sends 'message' (reference taken) to one process. */
void registry_send(struct process *process, json_t *message);

/* How many did not answer the last question, failed, or are there at all. */
unsigned registry_count_pending(const struct agent *agent);
unsigned registry_count_failed(const struct agent *agent);
unsigned registry_count(const struct agent *agent);

/* True if 'pid' is registered. */
int registry_has(const struct agent *agent, pid_t pid);

/* Says to all that 'fabric' may be used. */
void registry_tell_present(struct agent *agent, const struct symvirt_fabric *fabric);

/* An array with all processes (new reference). */
json_t *registry_describe(const struct agent *agent);

/* operation.c */

const char *operation_phase_name(enum phase phase);

/* A request of the host, checked. */
void operation_on_request(struct agent *agent, enum symvirt_message_type type,
                          const json_t *message);

/* Takes up a resume that an earlier agent was at. */
void operation_continue(struct agent *agent, uint64_t op, struct fabric_entry *fabric,
                        int64_t deadline);

/* Looks at the world and goes on. */
void operation_step(struct agent *agent);

/* When operation_step() is due without an event; -1: never. */
int64_t operation_next_look(const struct agent *agent);

/* What the agent says of itself in status and HELLO (new reference). */
json_t *operation_describe(const struct agent *agent);

/* Keeps 'result' (reference taken) among the last ones and sends it. */
void operation_send_result(struct agent *agent, json_t *result);

/* ranks.c */

/* The host's request 'op' for a page of links, checked. */
void ranks_on_request(struct agent *agent, uint64_t op, const json_t *message);

/* 'process' has answered something; returns true if it was a question of ours. */
int ranks_on_result(struct process *process, const json_t *message);

/* Answers for a process that ended or does not answer. */
void ranks_step(struct agent *agent);

/* When ranks_step() is due without an event; -1: never. */
int64_t ranks_next_look(const struct agent *agent);

/* channel.c */

int channel_create(struct agent *agent);
void channel_destroy(struct agent *agent);
void channel_on_poll(struct agent *agent, uint32_t events);

/* Repeats, reconnects. */
void channel_tick(struct agent *agent);
int64_t channel_next_tick(const struct agent *agent);

/* Sends 'message' (reference taken) if a host is there. */
void channel_send(struct agent *agent, json_t *message);

/* An object with the channel's state and counters (new reference). */
json_t *channel_describe(const struct agent *agent);

/* events.c */

/* Listens to the kernel: RDMA devices and network devices that come, go or change. Returns 0 or a
 * negative errno. */
int events_open(struct agent *agent);

/* Reads what came; returns true if the devices are to be scanned. */
int events_read(int fd);

/* state.c */

/* Writes what a restarted agent must know to run/state.json. */
void state_save(const struct agent *agent);

/* Reads it, puts back what a killed agent left fenced, and takes up what it was at. */
void state_load(struct agent *agent);

#endif
