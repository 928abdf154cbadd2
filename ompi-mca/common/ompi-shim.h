/*
 * What differs between the series of Open MPI: all of it is here.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_OMPI_SHIM_H
#define NINJA_OMPI_SHIM_H

#include "opal_config.h"

#include "opal/constants.h"
#include "opal/mca/btl/base/base.h"
#include "opal/mca/btl/btl.h"
#include "opal/mca/pmix/pmix.h"
#include "opal/runtime/opal.h"

#include <stdio.h>
#include <string.h>

/* The descriptor that a receive callback is given. */
typedef mca_btl_base_descriptor_t ninja_receive_descriptor_t;

static inline void ninja_call_receive(mca_btl_base_module_t *btl, mca_btl_base_tag_t tag,
                                      ninja_receive_descriptor_t *descriptor)
{
    mca_btl_active_message_callback_t *callback = mca_btl_base_active_message_trigger + tag;

    callback->cbfunc(btl, tag, descriptor, callback->cbdata);
}

/* Publishes `size` bytes for other processes under the component's name. */
static inline int ninja_modex_send(const mca_base_component_t *component, const void *data,
                                   size_t size)
{
    int rc;

    OPAL_MODEX_SEND(rc, OPAL_PMIX_GLOBAL, component, data, size);
    return rc;
}

/* Fetches what `proc` has published; *data is malloc'ed. */
static inline int ninja_modex_receive(const mca_base_component_t *component,
                                      const opal_process_name_t *proc, void **data, size_t *size)
{
    int rc;

    OPAL_MODEX_RECV(rc, component, proc, (uint8_t **)data, size);
    return rc;
}

/*
 * Whether the running Open MPI is of the series that this component was built for. Open MPI itself
 * does not check it, and would crash.
 */
static inline bool ninja_series_matches(void)
{
    const char *running = strpbrk(opal_version_string, "0123456789");
    char built[32];

    snprintf(built, sizeof(built), "%d.%d.", OPAL_MAJOR_VERSION, OPAL_MINOR_VERSION);
    return running != NULL && strncmp(running, built, strlen(built)) == 0;
}

#endif
