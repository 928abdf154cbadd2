/* For tests of the agent: the real one on a made-up device tree, a guest link to it, and processes
 * that register. SPDX-License-Identifier: BSD-3-Clause
 *
 * AGENT and CLIENT_PROCESS in the environment name the two programs.
 */
#ifndef AGENT_FIXTURE_H
#define AGENT_FIXTURE_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>
#include <cmocka.h>

#include "guest-link.h"

#define NODE_MODE 0640

struct process {
    pid_t pid;
    int input; /* the process ends when this is closed */
    char output[300];
};

struct fixture {
    char root[40];
    int listen_fd;
    struct guest_link *link;
    pid_t agent;
    unsigned connections, events;
    json_t *state;
    uint64_t result_op;
    json_t *result;
    char progress[256];
    struct process processes[4];
    unsigned process_count;
};

int64_t now_ms(void);

const char *path_in(const struct fixture *fixture, const char *name);

/* Writes a file, making the directories above it. */
void put_file(const struct fixture *fixture, const char *name, const char *text);

void plug_device(const struct fixture *fixture, const char *port_state);

void unplug_device(const struct fixture *fixture);

int node_is_open_to_all(const struct fixture *fixture);

ino_t node_inode(const struct fixture *fixture);

void run_for(struct fixture *fixture, int milliseconds);

uint64_t ask(struct fixture *fixture, enum symvirt_message_type type, int timeout_ms);

/* The same about the fabric that `fabric_text`, in JSON, describes. */
uint64_t ask_about(struct fixture *fixture, enum symvirt_message_type type, const char *fabric_text,
                   int timeout_ms);

/* Waits for the result; returns its error. */
int wait_result(struct fixture *fixture);

int request(struct fixture *fixture, enum symvirt_message_type type);

void expect_in_message(struct fixture *fixture, const char *text);

void start_agent(struct fixture *fixture);

void kill_agent(struct fixture *fixture, int signal_number);

/* A process that registers in 'mode' (see client-process.c), holding the node if 'holds'. */
struct process *start_client(struct fixture *fixture, const char *mode, int holds);

int output_has(const struct process *process, const char *line);

void expect_output(struct fixture *fixture, const struct process *process, const char *line);

int setup(void **state);

int teardown(void **state);

/* A test with an agent of its own. */
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

/* AGENT and CLIENT_PROCESS name programs; otherwise this says so. */
int programs_are_there(void);

#endif
