/* ninja-guestctl's plugging out and in of devices, by libvirt's events.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libvirt/virterror.h>

#include "guestctl.h"

#define RETRY_MS 5000 /* a guest that is booting loses the request silently */

struct removal {
    const char *alias;
    int removed;
    int refused; /* the guest said no */
    int tick;
};

static void on_removed(virConnectPtr connection, virDomainPtr domain, const char *alias, void *ctx)
{
    struct removal *removal = ctx;

    /* A virtio device sends two of these; only ours counts. */
    if (!strcmp(alias, removal->alias))
        removal->removed = 1;
}

static void on_removal_failed(virConnectPtr connection, virDomainPtr domain, const char *alias,
                              void *ctx)
{
    struct removal *removal = ctx;

    if (!strcmp(alias, removal->alias))
        removal->refused = 1;
}

static void on_timer(int timer, void *ctx)
{
    ((struct removal *)ctx)->tick = 1;
}

/* 1 if the definition has the alias, 0 if not, -1 if libvirt cannot say. 'flags' chooses which
 * definition. */
static int definition_has(virDomainPtr domain, const char *alias, unsigned flags)
{
    char *xml = virDomainGetXMLDesc(domain, flags);
    char wanted[160];
    int has;

    if (!xml)
        return -1;
    snprintf(wanted, sizeof(wanted), "<alias name='%s'/>", alias);
    has = strstr(xml, wanted) != NULL;
    free(xml);
    return has;
}

/* Takes it out of the definition that the next start would use. Returns 0 or -1. */
static int forget_in_definition(virDomainPtr domain, const char *alias)
{
    if (virDomainIsPersistent(domain) != 1 ||
        definition_has(domain, alias, VIR_DOMAIN_XML_INACTIVE) != 1)
        return 0;
    return virDomainDetachDeviceAlias(domain, alias, VIR_DOMAIN_AFFECT_CONFIG);
}

/* Waits until it is gone: by event, by refusal, or by the live definition when time is up. Returns
 * an errno. */
static int wait_removed(virDomainPtr domain, struct removal *removal, int64_t deadline)
{
    int64_t retry = guestctl_now_ms() + RETRY_MS;

    while (!removal->removed && !removal->refused) {
        if (guestctl_now_ms() >= deadline)
            return definition_has(domain, removal->alias, 0) == 0 ? 0 : ETIMEDOUT;
        virEventRunDefaultImpl();
        if (!removal->tick || guestctl_now_ms() < retry)
            continue;
        removal->tick = 0;
        if (definition_has(domain, removal->alias, 0) == 0)
            return 0;
        /* Asked again while the guest is still at it, libvirt only says so. */
        virDomainDetachDeviceAlias(domain, removal->alias, VIR_DOMAIN_AFFECT_LIVE);
        retry = guestctl_now_ms() + RETRY_MS;
    }
    return removal->removed ? 0 : EBUSY;
}

int guestctl_detach(const struct guestctl_options *options, virDomainPtr domain)
{
    struct removal removal = {.alias = options->argument};
    virConnectPtr connection = virDomainGetConnect(domain);
    int64_t begin = guestctl_now_ms();
    int error, on_removed_id, on_failed_id, timer;

    if (definition_has(domain, options->argument, 0) == 0) {
        if (forget_in_definition(domain, options->argument))
            return guestctl_report_libvirt(options, "cannot change the definition", begin);
        return guestctl_report(options, 0, "there was no such device in the running VM", NULL,
                               begin);
    }
    /* Before the request, so that no event is missed. */
    on_removed_id =
        virConnectDomainEventRegisterAny(connection, domain, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
                                         VIR_DOMAIN_EVENT_CALLBACK(on_removed), &removal, NULL);
    on_failed_id = virConnectDomainEventRegisterAny(
        connection, domain, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
        VIR_DOMAIN_EVENT_CALLBACK(on_removal_failed), &removal, NULL);
    timer = virEventAddTimeout(500, on_timer, &removal, NULL);
    if (on_removed_id < 0 || on_failed_id < 0 || timer < 0)
        return guestctl_report_libvirt(options, "cannot wait for libvirt's events", begin);
    if (virDomainDetachDeviceAlias(domain, options->argument, VIR_DOMAIN_AFFECT_LIVE))
        return guestctl_report_libvirt(options, "cannot unplug", begin);
    error = wait_removed(domain, &removal, begin + options->timeout_ms);
    virEventRemoveTimeout(timer);
    virConnectDomainEventDeregisterAny(connection, on_removed_id);
    virConnectDomainEventDeregisterAny(connection, on_failed_id);
    if (!error && forget_in_definition(domain, options->argument))
        return guestctl_report_libvirt(
            options, "unplugged, but the persistent definition still has it", begin);
    return guestctl_report(options, error,
                           error == ETIMEDOUT
                               ? "the guest did not let the device go; is it released?"
                           : error ? "the guest refused to let the device go"
                                   : NULL,
                           NULL, begin);
}

/* The whole file, for the caller to free(); NULL with errno set. */
static char *read_file(const char *path)
{
    FILE *file = fopen(path, "re");
    char *text = calloc(1, 65536);
    size_t size = 0;

    if (file && text)
        size = fread(text, 1, 65535, file);
    if (file)
        fclose(file);
    if (size)
        return text;
    free(text);
    return NULL;
}

int guestctl_attach(const struct guestctl_options *options, virDomainPtr domain)
{
    int64_t begin = guestctl_now_ms();
    char *xml = read_file(options->argument);
    unsigned flags = VIR_DOMAIN_AFFECT_LIVE;
    int rc;

    if (!xml) {
        fprintf(stderr, "ninja-guestctl: cannot read %s\n", options->argument);
        return GUESTCTL_USAGE;
    }
    if (virDomainIsPersistent(domain) == 1)
        flags |= VIR_DOMAIN_AFFECT_CONFIG;
    rc = virDomainAttachDeviceFlags(domain, xml, flags);
    free(xml);
    if (rc)
        return guestctl_report_libvirt(options, "cannot plug in", begin);
    return guestctl_report(options, 0, NULL, NULL, begin);
}
