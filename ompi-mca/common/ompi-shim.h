/*
 * What differs between the series of Open MPI: all of it is here (and the headers under ompi5/,
 * which Debian leaves out).
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_OMPI_SHIM_H
#define NINJA_OMPI_SHIM_H

#include "opal_config.h"

#include "opal/constants.h"
#include "opal/datatype/opal_convertor.h"
#include "opal/mca/btl/base/base.h"
#include "opal/mca/btl/btl.h"
#if OPAL_MAJOR_VERSION >= 5
#include "opal/mca/pmix/pmix-internal.h"
#else
#include "opal/mca/pmix/pmix.h"
#endif
#include "opal/runtime/opal.h"
#include "opal/util/proc.h"

#include <stdio.h>
#include <string.h>

#if OPAL_MAJOR_VERSION >= 5
/* Words that series 5.0 no longer has: it expects that components do not hide their symbols. */
#define OPAL_MODULE_DECLSPEC __attribute__((visibility("default")))
#define OMPI_MODULE_DECLSPEC __attribute__((visibility("default")))
#define NINJA_MODEX_GLOBAL PMIX_GLOBAL
#else
#define NINJA_MODEX_GLOBAL OPAL_PMIX_GLOBAL
#endif

/* Whether the data of `convertor` are one piece of memory that the processor can read. */
static inline bool ninja_convertor_in_place(const opal_convertor_t *convertor)
{
#if OPAL_MAJOR_VERSION >= 5
    if (opal_convertor_on_device(convertor))
        return false;
#endif
    return !opal_convertor_need_buffers(convertor);
}

/* Gives the upper layer a message that came from `endpoint`, which may be NULL if
 * ninja_needs_endpoint() says so. */
static inline void ninja_call_receive(mca_btl_base_module_t *btl,
                                      struct mca_btl_base_endpoint_t *endpoint,
                                      mca_btl_base_tag_t tag, mca_btl_base_segment_t *segment)
{
    mca_btl_active_message_callback_t *callback = mca_btl_base_active_message_trigger + tag;
#if OPAL_MAJOR_VERSION >= 5
    const mca_btl_base_receive_descriptor_t descriptor = {
        .endpoint = endpoint,
        .des_segments = segment,
        .des_segment_count = 1,
        .tag = tag,
        .cbdata = callback->cbdata,
    };

    callback->cbfunc(btl, &descriptor);
#else
    mca_btl_base_descriptor_t descriptor;

    memset(&descriptor, 0, sizeof(descriptor));
    descriptor.des_segments = segment;
    descriptor.des_segment_count = 1;
    callback->cbfunc(btl, tag, &descriptor, callback->cbdata);
#endif
}

/* Whether who receives `tag` answers to the endpoint it came from. */
static inline bool ninja_needs_endpoint(mca_btl_base_tag_t tag)
{
#if OPAL_MAJOR_VERSION >= 5
    /* Remote memory access by active messages (btl_base_am_rdma.c), which aborts without one. */
    return tag >= MCA_BTL_TAG_BTL_BASE && tag < MCA_BTL_TAG_BTL;
#else
    return false;
#endif
}

/*
 * Whether the descriptor of a message with `tag` is changed and sent again when the first send is
 * complete, and the completion must not be told inside of the send: a lock is held there.
 */
static inline bool ninja_sends_again(mca_btl_base_tag_t tag)
{
#if OPAL_MAJOR_VERSION >= 5
    return tag == MCA_BTL_BASE_TAG_RDMA;
#else
    return false;
#endif
}

/* Publishes `size` bytes for other processes under the component's name. */
static inline int ninja_modex_send(const mca_base_component_t *component, const void *data,
                                   size_t size)
{
    int rc;

    OPAL_MODEX_SEND(rc, NINJA_MODEX_GLOBAL, component, data, size);
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
