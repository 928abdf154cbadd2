/*
 * The ucx transport's UCX contexts and workers: their settings, life and event files.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <ucs/config/types.h>

#include "core.h"
#include "transport-ucx.h"

/* How long a worker without paths is kept. */
#define IDLE_LIMIT_MS 3000

/* Rounds of progress before arming gives up for this time. */
#define ARM_ROUNDS 16

/* --- Settings -------------------------------------------------------------------------------- */

/* For what a setting is made. */
enum setting_for { FOR_ALL, FOR_RDMA, FOR_SOFT_ROCE, FOR_TCP, FOR_SHM };

/*
 * UCX takes any name: one that UCP itself does not know is offered to the transports later, and
 * ends in no more than a warning of UCX, "invalid configuration". So those `of_ucp` are checked
 * when a context is made; for the others test-transport asks ucx_info. Inside the program UCX
 * calls them by another name than in the environment.
 */
static const struct setting {
    const char *variable; /* in the environment, after UCX_ */
    const char *name;     /* for ucp_config_modify() */
    const char *value;
    bool of_ucp;
    enum setting_for wanted_for;
} settings[] = {
    /* A silent peer is no dead peer: it may be paused for its own move. */
    {"KEEPALIVE_INTERVAL", "KEEPALIVE_INTERVAL", "inf", true, FOR_ALL},
    {"TCP_KEEPIDLE", "KEEPIDLE", "inf", false, FOR_TCP},
    {"POSIX_ERROR_HANDLING", "MM_ERROR_HANDLING", "y", false, FOR_SHM},
    /* We connect over worker addresses: no rdmacm, with threads and files of its own. */
    {"SOCKADDR_TLS_PRIORITY", "SOCKADDR_TLS_PRIORITY", "tcp", true, FOR_ALL},
    /* rxe's datagrams over IPv4 do not carry the GID that UCX looks for. */
    {"UD_VERBS_ETH_DGID_CHECK", "UD_ETH_DGID_CHECK", "n", false, FOR_SOFT_ROCE},
    /* rxe takes UCX's 7 for "for ever", and would never notice that the peer's device is gone. */
    {"RC_VERBS_RETRY_COUNT", "RC_RETRY_COUNT", "6", false, FOR_SOFT_ROCE},
    /*
     * UD knows a peer by GID and queue number, which a device that was unplugged and plugged in
     * again has anew. Old connections must be forgotten by then, or UCX aborts (ud_ep.c:849).
     */
    {"UD_VERBS_LINGER_TIMEOUT", "UD_LINGER_TIMEOUT", "200ms", false, FOR_RDMA},
    /* Receive buffers are locked memory of small guests, and software needs no deep queues. */
    {"RC_VERBS_RX_QUEUE_LEN", "RC_RX_QUEUE_LEN", "512", false, FOR_SOFT_ROCE},
    {"UD_VERBS_RX_QUEUE_LEN", "UD_RX_QUEUE_LEN", "512", false, FOR_SOFT_ROCE},
};
#define SETTINGS (sizeof(settings) / sizeof(settings[0]))

const char *ninja_ucx_setting_name(unsigned index)
{
    return index < SETTINGS ? settings[index].variable : NULL;
}

/* The user has set `name` in the environment, for us (NINJA_UCX_) or for all of UCX. */
static bool is_set_by_user(const char *name, bool only_for_us)
{
    char variable[96];

    snprintf(variable, sizeof(variable), "NINJA_UCX_%s", name);
    return getenv(variable) != NULL ||
           (!only_for_us && getenv(variable + strlen("NINJA_")) != NULL);
}

/*
 * The user has made `setting`. What we call by one name inside the program, for all transports of
 * UCX that have it, is another variable for those that drive mlx5 by themselves.
 */
static bool is_made_by_user(const struct setting *setting)
{
    static const char any[] = "_VERBS_", mlx5[] = "_MLX5_";
    const char *at = strstr(setting->variable, any);
    char variable[64];

    if (is_set_by_user(setting->variable, false))
        return true;
    if (at == NULL)
        return false;
    snprintf(variable, sizeof(variable), "%.*s%s%s", (int)(at - setting->variable),
             setting->variable, mlx5, at + strlen(any));
    return is_set_by_user(variable, false);
}

/* Is `name` printed as a setting of UCP itself? */
static bool is_known(ucp_config_t *config, const char *name)
{
    char *text = NULL, line[96];
    size_t size = 0;
    bool known;
    FILE *stream = open_memstream(&text, &size);

    if (stream == NULL)
        return false;
    ucp_config_print(config, stream, NULL, UCS_CONFIG_PRINT_CONFIG);
    fclose(stream);
    snprintf(line, sizeof(line), "UCX_%s=", name);
    known = text != NULL && strstr(text, line) != NULL;
    free(text);
    return known;
}

/* Makes one setting. Returns 0, or -EINVAL when UCX does not take it; that has been logged. */
static int set(const struct ninja_core *core, ucp_config_t *config, const char *name,
               const char *value, bool of_ucp)
{
    ucs_status_t status = ucp_config_modify(config, name, value);

    if (status == UCS_OK && (!of_ucp || is_known(config, name)))
        return 0;
    ninja_log(core, 0, "UCX %s does not take the setting %s=%s", ucp_get_version_string(), name,
              value);
    return -EINVAL;
}

static bool applies(const struct setting *setting, const struct ucx_transport *transport)
{
    switch (setting->wanted_for) {
    case FOR_RDMA:
        return transport->kind == UCX_OVER_RDMA;
    case FOR_SOFT_ROCE:
        return transport->device.soft_roce;
    case FOR_TCP:
        return transport->kind == UCX_OVER_TCP;
    case FOR_SHM:
        return transport->kind == UCX_OVER_SHM;
    default:
        return true;
    }
}

static int configure(struct ucx_transport *transport, ucp_config_t *config, const char *ucx_device)
{
    static const char *const tls[] = {
        /*
         * No transport, but UCX's word for all that have reliable connections (and datagrams to set
         * them up): it takes the best that the device has, rc_mlx5 on mlx5, rc_verbs elsewhere.
         */
        [UCX_OVER_RDMA] = "rc",
        [UCX_OVER_TCP] = "tcp",
        [UCX_OVER_SHM] = "posix",
    };
    const struct ninja_core *core = transport->base.core;
    int rc = 0;

    /* The fabric names the device; a UCX_NET_DEVICES meant for others must not change it. */
    if (!is_set_by_user("NET_DEVICES", true))
        rc = set(core, config, "NET_DEVICES", ucx_device, true);
    if (rc == 0 && !is_set_by_user("TLS", false))
        rc = set(core, config, "TLS", tls[transport->kind], true);
    for (size_t i = 0; i < SETTINGS && rc == 0; i++) {
        const struct setting *setting = &settings[i];

        if (applies(setting, transport) && !is_made_by_user(setting))
            rc = set(core, config, setting->name, setting->value, setting->of_ucp);
    }
    return rc;
}

int ucx_error(ucs_status_t status)
{
    switch (status) {
    case UCS_OK:
        return 0;
    case UCS_ERR_NO_MEMORY:
        return -ENOMEM;
    case UCS_ERR_NO_DEVICE:
        return -ENODEV;
    case UCS_ERR_UNREACHABLE:
        return -EHOSTUNREACH;
    case UCS_ERR_CANCELED:
        return -ECANCELED;
    case UCS_ERR_TIMED_OUT:
    case UCS_ERR_ENDPOINT_TIMEOUT:
        return -ETIMEDOUT;
    case UCS_ERR_REJECTED:
    case UCS_ERR_CONNECTION_RESET:
        return -ECONNRESET;
    default:
        return -EIO;
    }
}

int ucx_context_create(struct ucx_transport *transport, const char *ucx_device, char *why,
                       size_t why_size)
{
    ucp_params_t params = {
        .field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_NAME,
        .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP,
        .name = "ninja",
    };
    ucp_config_t *config;
    /* With this prefix both NINJA_UCX_* and UCX_* count, the first more than the second. */
    ucs_status_t status = ucp_config_read("NINJA", NULL, &config);
    int rc;

    if (status != UCS_OK) {
        snprintf(why, why_size, "UCX does not understand its settings (UCX_*, NINJA_UCX_*): %s",
                 ucs_status_string(status));
        return -EINVAL;
    }
    rc = configure(transport, config, ucx_device);
    if (rc != 0) {
        snprintf(why, why_size, "UCX %s does not know a setting that is needed",
                 ucp_get_version_string());
    } else {
        status = ucp_init(&params, config, &transport->context);
        rc = ucx_error(status);
        if (rc != 0)
            snprintf(why, why_size, "UCX cannot use %s: %s", transport->device_name,
                     ucs_status_string(status));
    }
    ucp_config_release(config);
    return rc;
}

/* --- Workers --------------------------------------------------------------------------------- */

/* Fetches the address of `worker`, checks that our headers fit, and adds its event file to the
 * transport's. */
static int prepare(struct ucx_worker *worker)
{
    ucp_worker_attr_t attributes = {.field_mask = UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER};
    struct epoll_event event = {.events = EPOLLIN};
    ucs_status_t status;
    int event_fd;

    status = ucp_worker_get_address(worker->ucp, &worker->address, &worker->address_size);
    if (status == UCS_OK)
        status = ucp_worker_query(worker->ucp, &attributes);
    if (status == UCS_OK)
        status = ucp_worker_get_efd(worker->ucp, &event_fd);
    if (status != UCS_OK)
        return ucx_error(status);
    if (attributes.max_am_header < sizeof(struct ucx_frame_header) ||
        attributes.max_am_header < sizeof(struct ucx_hello))
        return -EMSGSIZE;
    if (epoll_ctl(worker->transport->base.event_fd, EPOLL_CTL_ADD, event_fd, &event) != 0)
        return -errno;
    return ucx_receive_register(worker);
}

int ucx_worker_create(struct ucx_transport *transport, struct ucx_worker **out)
{
    ucp_worker_params_t params = {
        .field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
        /* The gate lets one thread in at a time. */
        .thread_mode = UCS_THREAD_MODE_SERIALIZED,
    };
    struct ucx_worker **at = &transport->workers;
    struct ucx_worker *worker = calloc(1, sizeof(*worker));
    int rc;

    if (worker == NULL)
        return -ENOMEM;
    worker->transport = transport;
    worker->idle_since_ms = ninja_now_ms();
    rc = ucx_error(ucp_worker_create(transport->context, &params, &worker->ucp));
    if (rc != 0) {
        free(worker);
        return rc;
    }
    while (*at != NULL)
        at = &(*at)->next;
    *at = worker;
    rc = prepare(worker);
    if (rc != 0) {
        ucx_worker_destroy(worker);
        return rc;
    }
    *out = worker;
    return 0;
}

void ucx_worker_destroy(struct ucx_worker *worker)
{
    struct ucx_transport *transport = worker->transport;
    struct ucx_worker **at = &transport->workers;
    int event_fd;

    while (*at != worker)
        at = &(*at)->next;
    *at = worker->next;
    /* UCX's own event file may outlive the worker in copies that fork() made. */
    if (ucp_worker_get_efd(worker->ucp, &event_fd) == UCS_OK)
        (void)epoll_ctl(transport->base.event_fd, EPOLL_CTL_DEL, event_fd, NULL);
    if (worker->address != NULL)
        ucp_worker_release_address(worker->ucp, worker->address);
    ucp_worker_destroy(worker->ucp);
    free(worker->connected);
    free(worker);
}

static bool has_connected(const struct ucx_worker *worker, uint64_t peer)
{
    for (size_t i = 0; i < worker->connected_count; i++)
        if (worker->connected[i] == peer)
            return true;
    return false;
}

int ucx_worker_for(struct ucx_transport *transport, uint64_t peer, struct ucx_worker **out)
{
    struct ucx_worker *worker = transport->workers;
    uint64_t *connected;
    int rc;

    while (worker != NULL && has_connected(worker, peer))
        worker = worker->next;
    if (worker == NULL) {
        rc = ucx_worker_create(transport, &worker);
        if (rc != 0)
            return rc;
    }
    connected = realloc(worker->connected, (worker->connected_count + 1) * sizeof(*connected));
    if (connected == NULL)
        return -ENOMEM;
    worker->connected = connected;
    worker->connected[worker->connected_count++] = peer;
    *out = worker;
    return 0;
}

void ucx_worker_leave(struct ucx_worker *worker)
{
    if (--worker->paths == 0)
        worker->idle_since_ms = ninja_now_ms();
}

void ucx_workers_expire(struct ucx_transport *transport)
{
    struct ucx_worker *worker, *next;
    uint64_t now = ninja_now_ms();

    for (worker = transport->workers->next; worker != NULL; worker = next) {
        next = worker->next;
        if (worker->paths == 0 && now - worker->idle_since_ms >= IDLE_LIMIT_MS)
            ucx_worker_destroy(worker);
    }
}

bool ucx_workers_arm(struct ucx_transport *transport)
{
    for (struct ucx_worker *worker = transport->workers; worker != NULL; worker = worker->next) {
        unsigned rounds = 0;

        while (ucp_worker_arm(worker->ucp) == UCS_ERR_BUSY) {
            if (ucp_worker_progress(worker->ucp) != 0 || ++rounds == ARM_ROUNDS)
                return false;
        }
    }
    return true;
}
