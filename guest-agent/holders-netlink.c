/* Who holds an RDMA device, by the kernel's own list (what `rdma resource show` prints).
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * It sees what /proc cannot: descriptors on their way between processes, processes of other PID
 * namespaces, and users inside the kernel.
 */
#include "config.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <linux/netlink.h>
#include <rdma/rdma_netlink.h>

#include "holders.h"

struct query {
    const struct roots *roots;
    const char *device_name;
    int have_index;
    uint32_t index;
    uint16_t table; /* the attribute that holds the entries */
    struct holder_list *list;
};

/* The attribute of 'type' among 'size' bytes of attributes, or NULL. */
static const struct nlattr *attribute_find(const void *attributes, size_t size, unsigned type)
{
    const char *at = attributes;

    while (size >= sizeof(struct nlattr)) {
        const struct nlattr *attribute = (const struct nlattr *)at;
        size_t length = NLA_ALIGN(attribute->nla_len);

        if (attribute->nla_len < sizeof(*attribute) || attribute->nla_len > size)
            return NULL;
        if ((attribute->nla_type & NLA_TYPE_MASK) == type)
            return attribute;
        if (length >= size)
            return NULL;
        at += length;
        size -= length;
    }
    return NULL;
}

static const void *attribute_data(const struct nlattr *attribute)
{
    return (const char *)attribute + NLA_HDRLEN;
}

static size_t attribute_size(const struct nlattr *attribute)
{
    return attribute->nla_len - NLA_HDRLEN;
}

static const char *attribute_text(const struct nlattr *attribute)
{
    const char *text = attribute ? attribute_data(attribute) : NULL;

    return text && memchr(text, '\0', attribute_size(attribute)) ? text : "";
}

/* The kernel's own management of every device is no obstacle. */
static int kernel_user_is_harmless(const char *name)
{
    static const char *const harmless[] = {
        "ib_core",  "ib_cm", "ib_umad", "ib_uverbs", "rdma_cm", "iw_cm", "ib_ipoib",
        "rdma_rxe", "siw",   "irdma",   "bnxt_re",   "qedr",    "efa",   "hfi1"};
    size_t length = strlen(name);

    for (size_t i = 0; i < sizeof(harmless) / sizeof(*harmless); i++)
        if (!strcmp(name, harmless[i]))
            return 1;
    return length > 3 && !strcmp(name + length - 3, "_ib"); /* drivers: mlx5_ib and others */
}

/* The process of thread 'thread', which may be its first; 0 if the thread has ended. */
static uint32_t process_of_thread(const struct roots *roots, uint32_t thread)
{
    char path[256], line[128];
    unsigned process = 0;
    FILE *file;

    snprintf(path, sizeof(path), "%s/%u/status", roots->proc, thread);
    file = fopen(path, "re");
    if (!file)
        return 0;
    while (fgets(line, sizeof(line), file))
        if (sscanf(line, "Tgid: %u", &process) == 1)
            break;
    fclose(file);
    return process;
}

/* The thread that opened a context has ended, but somebody has the context still: its process, whom
 * it gave the descriptor to, or a socket in which that is on its way. */
static void add_without_opener(const struct query *query)
{
    unsigned index = query->list->count;

    if (query->table != RDMA_NLDEV_ATTR_RES_CTX)
        return; /* the objects of a context that was found */
    holders_add(query->list, 0, "?", "a context whose opener has ended");
    if (index < HOLDERS_MAX)
        query->list->holders[index].opener_ended = 1;
}

/* An entry belongs to a process (RES_PID, which the kernel leaves out when the thread that opened
 * has ended) or to the kernel (RES_KERN_NAME). */
static void on_entry(struct query *query, const struct nlattr *entry)
{
    const struct nlattr *pid =
        attribute_find(attribute_data(entry), attribute_size(entry), RDMA_NLDEV_ATTR_RES_PID);
    const char *kernel_name = attribute_text(attribute_find(
        attribute_data(entry), attribute_size(entry), RDMA_NLDEV_ATTR_RES_KERN_NAME));
    char comm[64] = "?";
    uint32_t number;

    if (pid && attribute_size(pid) >= sizeof(number)) {
        memcpy(&number, attribute_data(pid), sizeof(number));
        if (number) { /* 0: in a PID namespace that we cannot see */
            number = process_of_thread(query->roots, number);
            if (!number) {
                add_without_opener(query);
                return;
            }
            file_read_line(comm, sizeof(comm), "%s/%u/comm", query->roots->proc, number);
        }
        holders_add(query->list, (pid_t)number, comm, "open context, by the kernel's list");
    } else if (*kernel_name && !kernel_user_is_harmless(kernel_name)) {
        holders_add(query->list, 0, kernel_name, "kernel module");
    } else if (!*kernel_name) {
        add_without_opener(query);
    }
}

static void on_message(struct query *query, const void *attributes, size_t size)
{
    const struct nlattr *table, *index;
    const char *at;
    size_t left;

    if (!query->table) { /* the list of devices */
        index = attribute_find(attributes, size, RDMA_NLDEV_ATTR_DEV_INDEX);
        if (index &&
            !strcmp(attribute_text(attribute_find(attributes, size, RDMA_NLDEV_ATTR_DEV_NAME)),
                    query->device_name)) {
            memcpy(&query->index, attribute_data(index), sizeof(query->index));
            query->have_index = 1;
        }
        return;
    }
    table = attribute_find(attributes, size, query->table);
    if (!table)
        return;
    at = attribute_data(table);
    left = attribute_size(table);
    while (left >= sizeof(struct nlattr)) {
        const struct nlattr *entry = (const struct nlattr *)at;
        size_t length = NLA_ALIGN(entry->nla_len);

        if (entry->nla_len < sizeof(*entry) || entry->nla_len > left)
            break;
        on_entry(query, entry);
        if (length >= left)
            break;
        at += length;
        left -= length;
    }
}

/* Asks for all entries of 'command'. Returns 0 or a negative errno. */
static int dump(int fd, struct query *query, unsigned command)
{
    struct {
        struct nlmsghdr header;
        struct nlattr index;
        uint32_t value;
    } request = {
        .header = {.nlmsg_len = query->have_index ? sizeof(request) : sizeof(request.header),
                   .nlmsg_type = (uint16_t)RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, command),
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .index = {.nla_len = NLA_HDRLEN + sizeof(uint32_t), .nla_type = RDMA_NLDEV_ATTR_DEV_INDEX},
        .value = query->index,
    };
    _Alignas(struct nlmsghdr) char buffer[16384];

    if (send(fd, &request, request.header.nlmsg_len, 0) < 0)
        return -errno;
    for (;;) {
        ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
        struct nlmsghdr *message = (struct nlmsghdr *)buffer;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        for (; NLMSG_OK(message, (size_t)n); message = NLMSG_NEXT(message, n)) {
            if (message->nlmsg_type == NLMSG_DONE)
                return 0;
            if (message->nlmsg_type == NLMSG_ERROR)
                return ((struct nlmsgerr *)NLMSG_DATA(message))->error;
            on_message(query, NLMSG_DATA(message), message->nlmsg_len - NLMSG_HDRLEN);
        }
    }
}

int holders_find_by_netlink(const struct roots *roots, const char *device_name,
                            struct holder_list *list)
{
    static const struct {
        unsigned command;
        uint16_t table;
    } tables[] = {
        {RDMA_NLDEV_CMD_RES_CTX_GET, RDMA_NLDEV_ATTR_RES_CTX},
        {RDMA_NLDEV_CMD_RES_PD_GET, RDMA_NLDEV_ATTR_RES_PD},
        {RDMA_NLDEV_CMD_RES_QP_GET, RDMA_NLDEV_ATTR_RES_QP},
    };
    struct query query = {.roots = roots, .device_name = device_name, .list = list};
    struct timeval limit = {.tv_sec = 1};
    int fd, rc;

    if (strcmp(roots->sys, "/sys"))
        return 0; /* a made-up tree of a test: the kernel knows nothing of it */
    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_RDMA);
    if (fd < 0)
        return errno == EPROTONOSUPPORT ? -EOPNOTSUPP : -errno;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    rc = dump(fd, &query, RDMA_NLDEV_CMD_GET);
    for (size_t i = 0; !rc && query.have_index && i < sizeof(tables) / sizeof(*tables); i++) {
        query.table = tables[i].table;
        rc = dump(fd, &query, tables[i].command);
        if (rc == -EINVAL || rc == -EOPNOTSUPP)
            rc = 0; /* this kernel does not know this table */
    }
    close(fd);
    return rc;
}
