/* A guest link over libvirt's stream to a VM's channel.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "guest-link-libvirt.h"

#define ALWAYS (VIR_STREAM_EVENT_READABLE | VIR_STREAM_EVENT_HANGUP | VIR_STREAM_EVENT_ERROR)

struct libvirt_transport {
    struct guest_link *link;
    virStreamPtr stream;
    int ended;
};

static ssize_t libvirt_read(void *transport, void *buffer, size_t size)
{
    int n = virStreamRecv(((struct libvirt_transport *)transport)->stream, buffer, size);

    if (n == -2)
        return -EAGAIN;
    return n < 0 ? -EIO : n;
}

static ssize_t libvirt_write(void *transport, const void *data, size_t size)
{
    /* A message of libvirt's protocol takes 256 KiB; smaller pieces keep it responsive. */
    int n = virStreamSend(((struct libvirt_transport *)transport)->stream, data,
                          size < 65536 ? size : 65536);

    if (n == -2)
        return -EAGAIN;
    return n < 0 ? -EIO : n;
}

static void libvirt_watch_write(void *transport, int on)
{
    virStreamEventUpdateCallback(((struct libvirt_transport *)transport)->stream,
                                 ALWAYS | (on ? VIR_STREAM_EVENT_WRITABLE : 0));
}

static void libvirt_close(void *transport)
{
    struct libvirt_transport *closed = transport;
    virStreamPtr stream = closed->stream;

    closed->ended = 1;
    virStreamEventRemoveCallback(
        stream); /* frees the transport, at once or when its callback returns */
    virStreamAbort(stream);
    virStreamFree(stream);
}

static void on_stream_event(virStreamPtr stream, int events, void *opaque)
{
    struct libvirt_transport *transport = opaque;
    struct guest_link *link = transport->link;

    if (!transport->ended && events & VIR_STREAM_EVENT_WRITABLE)
        guest_link_on_writable(link);
    if (!transport->ended && events & ALWAYS)
        guest_link_on_readable(link);
}

int guest_link_attach_libvirt(struct guest_link *link, virDomainPtr domain, int force)
{
    static const struct guest_link_transport functions = {libvirt_read, libvirt_write,
                                                          libvirt_watch_write, libvirt_close};
    struct libvirt_transport *transport = calloc(1, sizeof(*transport));

    if (!transport)
        return -ENOMEM;
    transport->link = link;
    transport->stream = virStreamNew(virDomainGetConnect(domain), VIR_STREAM_NONBLOCK);
    if (!transport->stream)
        goto no_stream;
    if (virDomainOpenChannel(domain, SYMVIRT_CHANNEL_NAME, transport->stream,
                             force ? VIR_DOMAIN_CHANNEL_FORCE : 0))
        goto no_channel;
    /* From here on libvirt frees the transport, after its last callback. */
    if (virStreamEventAddCallback(transport->stream, ALWAYS, on_stream_event, transport, free)) {
        virStreamAbort(transport->stream);
        goto no_channel;
    }
    guest_link_attach(link, &functions, transport);
    return 0;

no_channel:
    virStreamFree(transport->stream);
no_stream:
    free(transport);
    return -ENOTCONN;
}
