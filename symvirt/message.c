/* Messages: their names, what members each must have, and how they are made.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "symvirt.h"

enum member_kind {
    MEMBER_NUMBER,
    MEMBER_TEXT,
    MEMBER_BOOLEAN,
    MEMBER_OBJECT,
    MEMBER_ARRAY,
    MEMBER_FABRIC
};

struct member_rule {
    const char *name;
    enum member_kind kind;
    int optional;
};

struct message_rule {
    const char *name;
    struct member_rule members[7]; /* ends at a NULL name */
};

/* The one list of messages and of what they must carry. */
static const struct message_rule message_rules[SYMVIRT_MESSAGE_TYPES] = {
    [SYMVIRT_HELLO] = {"hello",
                       {{"epoch", MEMBER_NUMBER, 0},
                        {"role", MEMBER_TEXT, 0},
                        {"protocol", MEMBER_NUMBER, 0},
                        {"state", MEMBER_OBJECT, 1}}},
    [SYMVIRT_ACK] = {"ack", {{"sequence", MEMBER_NUMBER, 0}}},
    [SYMVIRT_PING] = {"ping", {{"op", MEMBER_NUMBER, 0}}},
    [SYMVIRT_RELEASE] = {"release", {{"op", MEMBER_NUMBER, 0}, {"fabric", MEMBER_FABRIC, 0}}},
    [SYMVIRT_RESUME] = {"resume", {{"op", MEMBER_NUMBER, 0}, {"fabric", MEMBER_FABRIC, 0}}},
    [SYMVIRT_ABORT] = {"abort", {{"op", MEMBER_NUMBER, 0}}},
    [SYMVIRT_STATUS] = {"status",
                        {{"op", MEMBER_NUMBER, 0},
                         {"of", MEMBER_TEXT, 1},
                         {"process", MEMBER_NUMBER, 1},
                         {"first", MEMBER_NUMBER, 1}}},
    [SYMVIRT_SETTIME] = {"settime", {{"op", MEMBER_NUMBER, 0}, {"realtime_ns", MEMBER_NUMBER, 0}}},
    [SYMVIRT_REGISTER] = {"register",
                          {{"pid", MEMBER_NUMBER, 0},
                           {"name", MEMBER_TEXT, 0},
                           {"kind", MEMBER_TEXT, 0},
                           {"protocol", MEMBER_NUMBER, 0},
                           {"operations", MEMBER_ARRAY, 1}}},
    [SYMVIRT_REGISTERED] = {"registered", {{"fabrics", MEMBER_ARRAY, 0}}},
    [SYMVIRT_PROGRESS] = {"progress", {{"op", MEMBER_NUMBER, 0}, {"what", MEMBER_TEXT, 0}}},
    [SYMVIRT_RESULT] = {"result",
                        {{"op", MEMBER_NUMBER, 0},
                         {"ok", MEMBER_BOOLEAN, 0},
                         {"error", MEMBER_NUMBER, 0},
                         {"message", MEMBER_TEXT, 1},
                         {"detail", MEMBER_OBJECT, 1}}},
    [SYMVIRT_EVENT] = {"event",
                       {{"event", MEMBER_TEXT, 0},
                        {"fabric", MEMBER_FABRIC, 1},
                        {"device", MEMBER_TEXT, 1},
                        {"port", MEMBER_NUMBER, 1},
                        {"state", MEMBER_TEXT, 1}}},
};

const char *symvirt_message_type_name(enum symvirt_message_type type)
{
    return (unsigned)type < SYMVIRT_MESSAGE_TYPES ? message_rules[type].name : "unknown";
}

static int member_ok(const json_t *value, enum member_kind kind)
{
    struct symvirt_fabric fabric;

    switch (kind) {
    case MEMBER_NUMBER:
        return json_is_integer(value) && json_integer_value(value) >= 0;
    case MEMBER_TEXT:
        return json_is_string(value);
    case MEMBER_BOOLEAN:
        return json_is_boolean(value);
    case MEMBER_OBJECT:
        return json_is_object(value);
    case MEMBER_ARRAY:
        return json_is_array(value);
    case MEMBER_FABRIC:
        return !symvirt_fabric_from_json(value, &fabric);
    }
    return 0;
}

int symvirt_message_check(const json_t *message, enum symvirt_message_type *type)
{
    const char *name = symvirt_message_text(message, "type");
    unsigned found = 0;

    while (found < SYMVIRT_MESSAGE_TYPES && strcmp(message_rules[found].name, name))
        found++;
    if (found == SYMVIRT_MESSAGE_TYPES)
        return -EBADMSG;
    for (const struct member_rule *rule = message_rules[found].members; rule->name; rule++) {
        const json_t *value = json_object_get(message, rule->name);

        if (value ? !member_ok(value, rule->kind) : !rule->optional)
            return -EBADMSG;
    }
    *type = found;
    return 0;
}

json_t *symvirt_message_request(enum symvirt_message_type type, uint64_t op)
{
    return json_pack("{s:s, s:I}", "type", symvirt_message_type_name(type), "op", (json_int_t)op);
}

json_t *symvirt_message_links_request(uint64_t op, uint64_t process, uint64_t first)
{
    return json_pack("{s:s, s:I, s:s, s:I, s:I}", "type", "status", "op", (json_int_t)op, "of",
                     SYMVIRT_STATUS_LINKS, "process", (json_int_t)process, "first",
                     (json_int_t)first);
}

json_t *symvirt_message_details_request(uint64_t op, uint64_t first)
{
    return json_pack("{s:s, s:I, s:s, s:I}", "type", "status", "op", (json_int_t)op, "of",
                     SYMVIRT_STATUS_DETAILS, "first", (json_int_t)first);
}

json_t *symvirt_message_fabric_request(enum symvirt_message_type type, uint64_t op,
                                       const struct symvirt_fabric *fabric)
{
    return json_pack("{s:s, s:I, s:o}", "type", symvirt_message_type_name(type), "op",
                     (json_int_t)op, "fabric", symvirt_fabric_to_json(fabric));
}

json_t *symvirt_message_progress(uint64_t op, const char *what)
{
    return json_pack("{s:s, s:I, s:s}", "type", "progress", "op", (json_int_t)op, "what", what);
}

json_t *symvirt_message_result(uint64_t op, int error, const char *text, json_t *detail)
{
    return json_pack("{s:s, s:I, s:b, s:i, s:s*, s:O*}", "type", "result", "op", (json_int_t)op,
                     "ok", error == 0, "error", error, "message", text, "detail", detail);
}

uint64_t symvirt_message_op(const json_t *message)
{
    return symvirt_message_number(message, "op", 0);
}

uint64_t symvirt_message_number(const json_t *message, const char *member, uint64_t missing)
{
    const json_t *value = json_object_get(message, member);

    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return missing;
    return (uint64_t)json_integer_value(value);
}

const char *symvirt_message_text(const json_t *message, const char *member)
{
    const char *text = json_string_value(json_object_get(message, member));

    return text ? text : "";
}

/* Copies a member of harmless characters. Returns 0 if it is no such text or too long. */
static int fabric_text_copy(const json_t *object, const char *member, char *to, size_t size)
{
    static const char harmless[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-";
    const json_t *value = json_object_get(object, member);
    const char *text = json_string_value(value);
    size_t length;

    if (!text)
        return 0;
    length = strlen(text);
    if (length >= size || strspn(text, harmless) != length || text[0] == '.')
        return 0;
    memcpy(to, text, length + 1);
    return 1;
}

int symvirt_fabric_from_json(const json_t *object, struct symvirt_fabric *fabric)
{
    struct symvirt_fabric made = {.device = ""};
    const json_t *epoch = json_object_get(object, "epoch");

    if (!fabric_text_copy(object, "uuid", made.uuid, sizeof(made.uuid)) ||
        !fabric_text_copy(object, "name", made.name, sizeof(made.name)) ||
        !json_is_integer(epoch) || json_integer_value(epoch) < 0)
        return -EBADMSG;
    if (json_object_get(object, "device") &&
        !fabric_text_copy(object, "device", made.device, sizeof(made.device)))
        return -EBADMSG;
    made.epoch = (uint64_t)json_integer_value(epoch);
    *fabric = made;
    return 0;
}

json_t *symvirt_fabric_to_json(const struct symvirt_fabric *fabric)
{
    return json_pack("{s:s, s:s, s:I, s:s}", "uuid", fabric->uuid, "name", fabric->name, "epoch",
                     (json_int_t)fabric->epoch, "device", fabric->device);
}

int symvirt_fabric_same(const struct symvirt_fabric *a, const struct symvirt_fabric *b)
{
    if (a->uuid[0] && b->uuid[0])
        return !strcmp(a->uuid, b->uuid);
    return a->name[0] && !strcmp(a->name, b->name);
}
