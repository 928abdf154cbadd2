/* Blocking libvirt calls on a VM: look, HCA, ends. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "domain.h"
#include "domain-private.h"
#include "domxml.h"
#include "host.h"

int domain_fail(char *error, const char *what)
{
    sentence_set(error, "%s: %s", what, virGetLastErrorMessage());
    switch (virGetLastErrorCode()) {
    case VIR_ERR_NO_DOMAIN:
        return -ENOENT;
    case VIR_ERR_DEVICE_MISSING:
        return -ENODEV;
    case VIR_ERR_OPERATION_ABORTED:
        return -ECANCELED;
    default:
        return -EIO;
    }
}

void domain_close(struct domain_handle *handle)
{
    if (handle->domain)
        virDomainFree(handle->domain);
    if (handle->connection)
        virConnectClose(handle->connection);
}

int domain_open(struct domain_handle *handle, const char *uri, const char *vm, char *error)
{
    int rc;

    memset(handle, 0, sizeof(*handle));
    handle->connection = host_connect(uri, error);
    if (!handle->connection)
        return -EHOSTUNREACH;
    handle->domain = virDomainLookupByName(handle->connection, vm);
    if (handle->domain)
        return 0;
    rc = domain_fail(error, vm);
    domain_close(handle);
    handle->connection = NULL;
    return rc;
}

static enum domain_presence presence_of(int state, int active)
{
    if (!active)
        return DOMAIN_STOPPED;
    return state == VIR_DOMAIN_PAUSED ? DOMAIN_PAUSED : DOMAIN_RUNNING;
}

static int look_at_devices(virDomainPtr domain, const char *alias, unsigned flags, char *key,
                           size_t size)
{
    char *xml = virDomainGetXMLDesc(domain, flags);
    int found = xml && domxml_device(xml, alias, key, size);

    free(xml);
    return found;
}

int domain_can_describe(virDomainPtr domain)
{
    int state = 0, reason = 0;

    if (virDomainIsActive(domain) != 1 || virDomainGetState(domain, &state, &reason, 0) < 0)
        return 0;
    return state != VIR_DOMAIN_PAUSED ||
           (reason != VIR_DOMAIN_PAUSED_MIGRATION && reason != VIR_DOMAIN_PAUSED_STARTING_UP &&
            reason != VIR_DOMAIN_PAUSED_UNKNOWN);
}

int domain_look(const char *uri, const char *vm, const char *hca_alias, struct domain_view *view,
                char *error)
{
    struct domain_handle handle;
    virDomainJobInfo info;
    int rc, state = 0, reason = 0;
    char key[64];

    memset(view, 0, sizeof(*view));
    rc = domain_open(&handle, uri, vm, error);
    if (rc == -ENOENT)
        return 0;
    if (rc)
        return rc;
    if (virDomainGetState(handle.domain, &state, &reason, 0) < 0) {
        /* It may have gone between the two calls. */
        rc = domain_fail(error, vm);
        domain_close(&handle);
        return rc == -ENOENT ? 0 : rc;
    }
    view->presence = presence_of(state, virDomainIsActive(handle.domain) == 1);
    if (view->presence >= DOMAIN_PAUSED) {
        if (!virDomainGetJobInfo(handle.domain, &info))
            view->job =
                info.type == VIR_DOMAIN_JOB_BOUNDED || info.type == VIR_DOMAIN_JOB_UNBOUNDED;
        view->job_in =
            state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_MIGRATION && !view->job;
        view->hca_live =
            domain_can_describe(handle.domain) &&
            look_at_devices(handle.domain, hca_alias, 0, view->hca_key, sizeof(view->hca_key));
    }
    if (virDomainIsPersistent(handle.domain) == 1)
        view->hca_config =
            look_at_devices(handle.domain, hca_alias, VIR_DOMAIN_XML_INACTIVE, key, sizeof(key));
    domain_close(&handle);
    return 0;
}

int domain_detach(const char *uri, const char *vm, const char *alias, char *error)
{
    struct domain_handle handle;
    int rc = domain_open(&handle, uri, vm, error);

    if (rc)
        return rc;
    if (virDomainDetachDeviceAlias(handle.domain, alias, VIR_DOMAIN_AFFECT_LIVE) < 0)
        rc = domain_fail(error, "detach");
    domain_close(&handle);
    return rc;
}

int domain_detach_config(const char *uri, const char *vm, const char *alias, char *error)
{
    struct domain_handle handle;
    int rc = domain_open(&handle, uri, vm, error);
    char key[64];

    if (rc)
        return rc;
    if (virDomainIsPersistent(handle.domain) == 1 &&
        look_at_devices(handle.domain, alias, VIR_DOMAIN_XML_INACTIVE, key, sizeof(key)) &&
        virDomainDetachDeviceAlias(handle.domain, alias, VIR_DOMAIN_AFFECT_CONFIG) < 0)
        rc = domain_fail(error, "detach from the definition");
    domain_close(&handle);
    return rc == -ENODEV ? 0 : rc;
}

int domain_attach(const char *uri, const char *vm, const char *alias, const char *xml, char *error)
{
    struct domain_handle handle;
    int rc = domain_open(&handle, uri, vm, error);
    char key[64];

    if (rc)
        return rc;
    if (!look_at_devices(handle.domain, alias, 0, key, sizeof(key)) &&
        virDomainAttachDeviceFlags(handle.domain, xml, VIR_DOMAIN_AFFECT_LIVE) < 0)
        rc = domain_fail(error, "attach");
    if (!rc && virDomainIsPersistent(handle.domain) == 1) {
        if (look_at_devices(handle.domain, alias, VIR_DOMAIN_XML_INACTIVE, key, sizeof(key)))
            virDomainDetachDeviceAlias(handle.domain, alias, VIR_DOMAIN_AFFECT_CONFIG);
        /* The running VM has it; that the next start would lack it is worth a line, not a failure.
         */
        if (virDomainAttachDeviceFlags(handle.domain, xml, VIR_DOMAIN_AFFECT_CONFIG) < 0)
            log_line("%s: the HCA is attached, but not in the persistent definition: %s", vm,
                     virGetLastErrorMessage());
    }
    domain_close(&handle);
    return rc;
}

int domain_abort(const char *uri, const char *vm, char *error)
{
    struct domain_handle handle;
    int rc = domain_open(&handle, uri, vm, error);

    if (rc)
        return rc;
    if (virDomainAbortJob(handle.domain) < 0)
        rc = domain_fail(error, "abort");
    domain_close(&handle);
    return rc;
}

int domain_destroy(const char *uri, const char *vm, char *error)
{
    struct domain_handle handle;
    int rc = domain_open(&handle, uri, vm, error);

    if (rc)
        return rc == -ENOENT ? 0 : rc;
    if (virDomainIsActive(handle.domain) == 1 && virDomainDestroy(handle.domain) < 0)
        rc = domain_fail(error, "end the copy");
    if (!rc && virDomainIsPersistent(handle.domain) == 1 && virDomainUndefine(handle.domain) < 0)
        rc = domain_fail(error, "forget the copy's definition");
    domain_close(&handle);
    return rc == -ENOENT ? 0 : rc;
}

int domain_resume(const char *uri, const char *vm, char *error)
{
    struct domain_handle handle;
    int rc = domain_open(&handle, uri, vm, error);

    if (rc)
        return rc;
    if (virDomainResume(handle.domain) < 0)
        rc = domain_fail(error, "resume");
    domain_close(&handle);
    return rc;
}
