/* ninjad's unix socket: one JSON object a line, in both directions.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef API_SERVER_H
#define API_SERVER_H

#include "coordinator.h"

#define API_SOCKET   "/run/ninja/ninjad.sock"
#define API_LINE_MAX 65536

struct client;

/* Listens at 'path' for root. Returns 0 or a negative errno after a logged line. */
int api_start(struct coordinator *coordinator, const char *path);

/* Stops listening and removes the socket. */
void api_stop(void);

/* Sends 'message' (reference taken) to a client. */
void api_send(struct client *client, json_t *message);

/* The client wants to see what happens to 'plan'. */
void api_follow(struct client *client, int64_t plan);

/* Sends 'message' (reference taken) to all that follow 'plan'. */
void api_tell(struct coordinator *coordinator, int64_t plan, json_t *message);

/* A reference on 'client' for an answer that comes later; it may be gone by then: NULL. */
uint64_t api_client_id(const struct client *client);
struct client *api_client(uint64_t id);

/* ranks.c: answers {request: "ranks", what: CLUSTER or VM}. */
void request_ranks(struct coordinator *coordinator, struct client *client, const json_t *request);

/* requests.c: answers one request. */
void api_request(struct coordinator *coordinator, struct client *client, const json_t *request);

/* Answers {"error": sentence, "code": exit code for ninjactl}. */
void api_fail(struct client *client, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
