/* Links of processes, asked by the host: one process and one page at a time, within a time limit.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "agent.h"

/* A process answers from its control thread, at once. */
#define ANSWER_MS 1000

/* The registered process with the lowest number from 'lowest' on, or NULL. */
static struct process *find_process(const struct agent *agent, uint64_t lowest)
{
    struct process *found = NULL;

    for (struct process *process = agent->processes; process; process = process->next)
        if (process->registered && !process->stream.error && process->id >= lowest &&
            (!found || process->id < found->id))
            found = process;
    return found;
}

/* Answers the host. 'links' (may be NULL) is the process's own word, bounded by its frame. */
static void answer(struct agent *agent, const char *error, json_t *links)
{
    struct links_question *question = &agent->question;
    const struct process *next = find_process(agent, question->process + 1);
    json_t *detail =
        json_pack("{s:I, s:I, s:I, s:s, s:I, s:s*, s:O*}", "process", (json_int_t)question->process,
                  "next", (json_int_t)(next ? next->id : 0), "processes",
                  (json_int_t)registry_count(agent), "name", question->name, "pid",
                  (json_int_t)question->pid, "error", error, SYMVIRT_STATUS_LINKS, links);

    channel_send(agent, symvirt_message_result(question->host_op, 0, NULL, detail));
    json_decref(detail);
    memset(question, 0, sizeof(*question));
}

void ranks_on_request(struct agent *agent, uint64_t op, const json_t *message)
{
    struct links_question *question = &agent->question;
    struct process *process = find_process(agent, symvirt_message_number(message, "process", 0));

    if (question->host_op == op)
        return; /* asked again over a new channel */
    if (question->host_op) {
        channel_send(agent, symvirt_message_result(op, EBUSY, "another question is open", NULL));
        return;
    }
    question->host_op = op;
    if (!process) {
        answer(agent, NULL, NULL);
        return;
    }
    question->process = process->id;
    question->pid = process->pid;
    memcpy(question->name, process->name, sizeof(question->name));
    question->op = ++agent->last_ask;
    question->deadline = symvirt_now_ms() + ANSWER_MS;
    registry_send(process, symvirt_message_links_request(
                               question->op, 0, symvirt_message_number(message, "first", 0)));
}

int ranks_on_result(struct process *process, const json_t *message)
{
    struct agent *agent = process->agent;
    const struct links_question *question = &agent->question;
    json_t *links = json_object_get(json_object_get(message, "detail"), SYMVIRT_STATUS_LINKS);

    if (!question->host_op || process->id != question->process ||
        symvirt_message_op(message) != question->op)
        return 0;
    answer(agent, json_is_object(links) ? NULL : "it does not tell its links", links);
    return 1;
}

void ranks_step(struct agent *agent)
{
    const struct links_question *question = &agent->question;
    const struct process *process;

    if (!question->host_op)
        return;
    process = find_process(agent, question->process);
    if (!process || process->id != question->process)
        answer(agent, "it has ended", NULL);
    else if (symvirt_now_ms() >= question->deadline)
        answer(agent, "it does not answer", NULL);
}

int64_t ranks_next_look(const struct agent *agent)
{
    return agent->question.host_op ? agent->question.deadline : -1;
}
