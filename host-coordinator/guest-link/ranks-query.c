/* Puts the answers about links together. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "guest-link.h"
#include "ranks-query.h"

struct ranks_query {
    uint64_t process, first; /* to be asked next */
    int done, truncated;
    unsigned questions;
    size_t links;
    uint64_t current; /* the process that the last of 'ranks' is */
    json_t *ranks, *rank;
};

struct ranks_query *ranks_query_create(void)
{
    struct ranks_query *query = calloc(1, sizeof(*query));

    if (query)
        query->ranks = json_array();
    return query;
}

void ranks_query_destroy(struct ranks_query *query)
{
    if (!query)
        return;
    json_decref(query->ranks);
    free(query);
}

int ranks_query_next(const struct ranks_query *query, uint64_t *process, uint64_t *first)
{
    *process = query->process;
    *first = query->first;
    return !query->done;
}

static json_t *printable(const json_t *value, size_t limit)
{
    const char *text = json_string_value(value);
    char clean[128];

    return json_string(guest_link_printable(clean, limit < sizeof(clean) ? limit : sizeof(clean),
                                            text ? text : ""));
}

/* A number of the guest's that is one; 0 otherwise. */
static json_t *number(const json_t *value)
{
    json_int_t given = json_is_integer(value) ? json_integer_value(value) : 0;

    return json_integer(given > 0 ? given : 0);
}

/* The process of 'detail': the one that was told of last, or a new one. Returns 0 if it is one too
 * many. */
static int find_rank(struct ranks_query *query, uint64_t process, const json_t *detail)
{
    if (query->rank && query->current == process)
        return 1;
    if (json_array_size(query->ranks) >= RANKS_QUERY_RANKS_MAX)
        return 0;
    query->current = process;
    query->rank = json_pack("{s:o, s:o, s:[]}", "pid", number(json_object_get(detail, "pid")),
                            "name", printable(json_object_get(detail, "name"), 64), "links");
    return query->rank && !json_array_append_new(query->ranks, query->rank);
}

/* Takes the links of one page. Returns how many there were. */
static size_t take_page(struct ranks_query *query, const json_t *page)
{
    json_t *links = json_object_get(query->rank, "links"), *link;
    json_t *given = json_object_get(page, "links");
    size_t i;

    json_object_set_new(query->rank, "job", number(json_object_get(page, "job")));
    json_object_set_new(query->rank, "rank", number(json_object_get(page, "rank")));
    json_object_set_new(query->rank, "total", number(json_object_get(page, "total")));
    json_array_foreach (given, i, link) {
        double since = json_number_value(json_array_get(link, 3));

        if (query->links >= RANKS_QUERY_LINKS_MAX) {
            query->truncated = 1;
            break;
        }
        query->links++;
        json_array_append_new(links, json_pack("{s:o, s:o, s:o, s:f}", "job",
                                               number(json_array_get(link, 0)), "rank",
                                               number(json_array_get(link, 1)), "transport",
                                               printable(json_array_get(link, 2), 32), "since_s",
                                               since > 0 && since < 1e12 ? since : 0.0));
    }
    return json_array_size(given);
}

void ranks_query_take(struct ranks_query *query, const json_t *detail)
{
    uint64_t process = symvirt_message_number(detail, "process", 0);
    uint64_t next = symvirt_message_number(detail, "next", 0);
    const json_t *page = json_object_get(detail, SYMVIRT_STATUS_LINKS);
    const json_t *error = json_object_get(detail, "error");
    size_t got = 0;

    query->questions++;
    if (!process || process < query->process) {
        query->done = 1; /* no process, or a guest that turns in circles */
        return;
    }
    if (!find_rank(query, process, detail)) {
        query->done = query->truncated = 1;
        return;
    }
    if (json_is_object(page))
        got = take_page(query, page);
    if (json_is_string(error))
        json_object_set_new(query->rank, "error", printable(error, 128));
    query->first += got;
    query->process = process;
    if (got == 0 || query->first >= symvirt_message_number(page, "total", 0)) {
        query->first = 0;
        query->process = next;
        query->done = next <= process;
    }
    if (!query->done && (query->truncated || query->questions >= RANKS_QUERY_QUESTIONS_MAX))
        query->done = query->truncated = 1;
}

json_t *ranks_query_result(const struct ranks_query *query)
{
    return json_pack("{s:O, s:b}", "ranks", query->ranks, "truncated", query->truncated);
}
