/* The channel to the host: a virtio-serial port (or, in tests, a unix socket) with a session on it.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

#define REOPEN_FIRST_MS 200
#define REOPEN_LAST_MS  5000

struct channel {
    struct symvirt_session *session;
    int fd;      /* -1: not open */
    int is_port; /* a character device, which stays open while no host is there */
    int host;    /* a host is at the other end */
    int64_t reopen_at;
    int reopen_ms;
    int complained;    /* that it cannot be opened */
    uint64_t bad_seen; /* bad frames already logged */
    int64_t bad_quiet_until;
};

static void on_message(void *ctx, enum symvirt_message_type type, json_t *message)
{
    operation_on_request(ctx, type, message);
}

static void on_opened(void *ctx, const json_t *state)
{
    agent_log("a host is there");
}

static json_t *on_describe(void *ctx)
{
    return operation_describe(ctx);
}

static void set_host(struct agent *agent, int there)
{
    struct channel *channel = agent->channel;

    if (there == channel->host)
        return;
    channel->host = there;
    if (there)
        symvirt_session_open(channel->session, 0, symvirt_now_ms());
    else
        symvirt_session_close(channel->session);
    if (!there)
        agent_log("the host is gone");
}

static void close_channel(struct agent *agent)
{
    struct channel *channel = agent->channel;

    set_host(agent, 0);
    if (channel->fd >= 0)
        close(channel->fd);
    channel->fd = -1;
}

/* Writes what the session has to say. */
static void channel_flush(struct agent *agent)
{
    struct channel *channel = agent->channel;
    const void *data;
    size_t size;

    while (channel->host && (size = symvirt_session_output(channel->session, &data))) {
        ssize_t n = write(channel->fd, data, size);

        if (n > 0)
            symvirt_session_written(channel->session, (size_t)n);
        else if (n < 0 && errno == EINTR)
            continue;
        else
            return; /* the descriptor will be reported writable, or hung up */
    }
}

static void try_open(struct agent *agent)
{
    struct channel *channel = agent->channel;
    struct stat info;
    int now_is_port = !stat(agent->options.port, &info) && !S_ISSOCK(info.st_mode);

    channel->fd = now_is_port
                      ? open(agent->options.port, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)
                      : symvirt_socket_connect(agent->options.port);
    if (channel->fd < 0) {
        if (!channel->complained)
            agent_log("no channel to the host yet: %s: %s", agent->options.port,
                      strerror(now_is_port ? errno : -channel->fd));
        channel->complained = 1;
        channel->fd = -1;
        return;
    }
    channel->complained = 0;
    channel->is_port = now_is_port;
    channel->reopen_ms = REOPEN_FIRST_MS;
    /* Edge-triggered: a port without a host is "hung up" all the time. */
    if (agent_poll_add(agent, channel->fd, EPOLLIN | EPOLLOUT | EPOLLET, POLL_CHANNEL))
        close_channel(agent);
}

int channel_create(struct agent *agent)
{
    static const struct symvirt_session_callbacks callbacks = {on_message, on_opened, on_describe};
    struct channel *channel = calloc(1, sizeof(*channel));
    int rc;

    if (!channel)
        return -ENOMEM;
    channel->fd = -1;
    channel->reopen_ms = REOPEN_FIRST_MS;
    rc = symvirt_session_create(&channel->session, SYMVIRT_SESSION_GUEST, &callbacks, agent);
    if (rc) {
        free(channel);
        return rc;
    }
    agent->channel = channel;
    return 0;
}

void channel_destroy(struct agent *agent)
{
    if (!agent->channel)
        return;
    close_channel(agent);
    symvirt_session_destroy(agent->channel->session);
    free(agent->channel);
    agent->channel = NULL;
}

/* Logs bad frames, at most a line in 10 s. */
static void log_bad_frames(struct channel *channel)
{
    const struct symvirt_decoder_counters *decoder =
        symvirt_session_decoder_counters(channel->session);
    uint64_t bad = decoder->bad_length + decoder->bad_crc + decoder->bad_json + decoder->cut +
                   symvirt_session_counters(channel->session)->bad_messages;
    int64_t now = symvirt_now_ms();

    if (bad == channel->bad_seen || now < channel->bad_quiet_until)
        return;
    agent_log("%llu bad frames from the host skipped (%llu bytes in all so far)",
              (unsigned long long)(bad - channel->bad_seen),
              (unsigned long long)decoder->bytes_skipped);
    channel->bad_seen = bad;
    channel->bad_quiet_until = now + 10000;
}

void channel_on_poll(struct agent *agent, uint32_t events)
{
    struct channel *channel = agent->channel;
    char buffer[16384];

    if (channel->fd < 0)
        return;
    if (!(events & EPOLLHUP))
        set_host(agent, 1);
    for (;;) {
        ssize_t n = read(channel->fd, buffer, sizeof(buffer));

        if (n > 0) {
            symvirt_session_input(channel->session, buffer, (size_t)n, symvirt_now_ms());
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        /* End: a port reads nothing while no host is there; anything else is over. */
        if (n == 0 && channel->is_port) {
            set_host(agent, 0);
            return;
        }
        close_channel(agent);
        return;
    }
    log_bad_frames(channel);
    if (events & EPOLLHUP) {
        set_host(agent, 0);
        if (!channel->is_port)
            close_channel(agent);
        return;
    }
    channel_flush(agent);
}

void channel_tick(struct agent *agent)
{
    struct channel *channel = agent->channel;
    int64_t now = symvirt_now_ms();

    if (channel->fd < 0 && now >= channel->reopen_at) {
        try_open(agent);
        channel->reopen_at = now + channel->reopen_ms;
        channel->reopen_ms =
            channel->reopen_ms * 2 < REOPEN_LAST_MS ? channel->reopen_ms * 2 : REOPEN_LAST_MS;
    }
    symvirt_session_tick(channel->session, now);
    channel_flush(agent);
}

int64_t channel_next_tick(const struct agent *agent)
{
    const struct channel *channel = agent->channel;
    int64_t now = symvirt_now_ms();
    int wait;

    if (channel->fd < 0)
        return channel->reopen_at;
    wait = symvirt_session_timeout_ms(channel->session, now);
    return wait < 0 ? -1 : now + wait;
}

void channel_send(struct agent *agent, json_t *message)
{
    uint64_t op;
    int rc;

    if (!agent->channel) {
        json_decref(message);
        return;
    }
    op = symvirt_message_op(message);
    rc = symvirt_session_send(agent->channel->session, message, symvirt_now_ms());
    if (rc == -EMSGSIZE && op)
        symvirt_session_send(agent->channel->session,
                             symvirt_message_result(op, EMSGSIZE, "the answer is too long", NULL),
                             symvirt_now_ms());
    channel_flush(agent);
}

json_t *channel_describe(const struct agent *agent)
{
    const struct symvirt_session_counters *session =
        symvirt_session_counters(agent->channel->session);
    const struct symvirt_decoder_counters *decoder =
        symvirt_session_decoder_counters(agent->channel->session);

    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "epochs", (json_int_t)session->epochs,
        "delivered", (json_int_t)session->delivered, "resent", (json_int_t)session->resent,
        "repeated", (json_int_t)session->repeated, "gaps", (json_int_t)session->gaps, "stale",
        (json_int_t)session->stale, "bytes_skipped", (json_int_t)decoder->bytes_skipped, "cut",
        (json_int_t)decoder->cut, "bad_crc", (json_int_t)decoder->bad_crc);
}
