/* ninjactl ranks: which transport each link of each rank uses, and since when.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "server.h"

/* For all ranks of one VM together; VMs are asked at the same time. */
#define LIMIT_MS 8000

/* An answer that is put together from several VMs. */
struct ranks_answer {
    uint64_t client;
    unsigned waiting; /* VMs that have not answered, and one for who asks them */
    json_t *vms;
};

struct ranks_question {
    struct ranks_answer *answer;
    const struct inventory_vm *vm;
};

static void answer_unref(struct ranks_answer *answer)
{
    struct client *client;

    if (--answer->waiting)
        return;
    client = api_client(answer->client);
    if (client)
        api_send(client, json_pack("{s:O}", "vms", answer->vms));
    json_decref(answer->vms);
    free(answer);
}

static void on_ranks(void *ctx, int error, const char *message, const json_t *detail)
{
    struct ranks_question *question = ctx;
    struct ranks_answer *answer = question->answer;
    json_t *vm =
        json_pack("{s:s, s:o, s:O, s:b}", "vm", question->vm->name, "error",
                  error ? json_string(message[0] ? message : strerror(error)) : json_null(),
                  "ranks", json_object_get(detail, "ranks"), "truncated",
                  json_is_true(json_object_get(detail, "truncated")));

    json_array_append_new(answer->vms, vm);
    free(question);
    answer_unref(answer);
}

static void ask_vm(struct coordinator *coordinator, struct ranks_answer *answer,
                   const struct inventory_vm *vm)
{
    struct guest *guest = coordinator_guest(coordinator, vm);
    struct ranks_question *question = calloc(1, sizeof(*question));
    const char *why = "its agent does not answer";

    if (question && guest_alive(guest)) {
        *question = (struct ranks_question){answer, vm};
        answer->waiting++;
        if (!guest_ask_ranks(guest, LIMIT_MS, on_ranks, question))
            return;
        answer->waiting--;
        why = "its agent is busy";
    }
    free(question);
    json_array_append_new(answer->vms, json_pack("{s:s, s:s, s:[], s:b}", "vm", vm->name, "error",
                                                 why, "ranks", "truncated", 0));
}

void request_ranks(struct coordinator *coordinator, struct client *client, const json_t *request)
{
    const char *what = json_string_value(json_object_get(request, "what"));
    const struct inventory_cluster *cluster =
        what ? inventory_cluster(coordinator->inventory, what) : NULL;
    const struct inventory_vm *vm = what ? inventory_vm(coordinator->inventory, what) : NULL;
    struct ranks_answer *answer;

    if (!cluster && !vm) {
        api_fail(client, 2, "there is no cluster or VM named '%.40s' in the inventory",
                 what ? what : "");
        return;
    }
    answer = calloc(1, sizeof(*answer));
    if (!answer) {
        api_fail(client, 1, "out of memory");
        return;
    }
    *answer = (struct ranks_answer){api_client_id(client), 1, json_array()};
    for (unsigned i = 0; i < coordinator->inventory->all_vms_count; i++) {
        const struct inventory_vm *each = inventory_vm_at(coordinator->inventory, i);

        if (cluster ? each->cluster == cluster : each == vm)
            ask_vm(coordinator, answer, each);
    }
    answer_unref(answer);
}
