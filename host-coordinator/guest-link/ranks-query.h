/* Which transport each link of each rank of a VM uses: asked page by page, put together here.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * No I/O: the user asks what ranks_query_next() says, over a guest link, and hands in each answer.
 * What the guest says is hostile: everything is checked, bounded and made printable.
 */
#ifndef RANKS_QUERY_H
#define RANKS_QUERY_H

#include <stdint.h>
#include <jansson.h>

/* What one VM may make the host keep, and how many questions it may make it ask. */
#define RANKS_QUERY_RANKS_MAX     1024
#define RANKS_QUERY_LINKS_MAX     16384
#define RANKS_QUERY_QUESTIONS_MAX 2048

struct ranks_query;

/* Makes a query that has asked nothing yet; NULL: out of memory. */
struct ranks_query *ranks_query_create(void);

void ranks_query_destroy(struct ranks_query *query);

/* What is to be asked next: links from number '*first' on of the first process from number
 * '*process' on. Returns 0 if all is known. */
int ranks_query_next(const struct ranks_query *query, uint64_t *process, uint64_t *first);

/* The answer to that: the detail of a result. */
void ranks_query_take(struct ranks_query *query, const json_t *detail);

/* What is known so far (new reference): {ranks: [{pid, name, job?, rank?, total?, error?, links:
 * [{job, rank, transport, since_s}...]}...], truncated}. 'truncated': there was more than the
 * limits allow. */
json_t *ranks_query_result(const struct ranks_query *query);

#endif
