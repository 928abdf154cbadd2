/*
 * btl/ninja, the module: what ob1 calls to find peers, send and get.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "btl_ninja.h"

#include <stdlib.h>
#include <string.h>

#include "opal/class/opal_bitmap.h"
#include "opal/datatype/opal_convertor.h"
#include "opal/util/output.h"
#include "opal/util/proc.h"

OBJ_CLASS_INSTANCE(mca_btl_ninja_fragment_t, mca_btl_base_descriptor_t, NULL, NULL);

/* Up to here a copy is cheaper than to have the sender wait for the acknowledgement. */
#define COPY_MAX (64U * 1024U)
/* Packets so small are ob1's own (ACK, FIN): never refused, because ob1 asks again only after a
 * completion. */
#define CONTROL_MAX 256U

static uint64_t peer_id(const opal_process_name_t *name)
{
    return (uint64_t)name->jobid << 32 | name->vpid;
}

/* --- Peers
 * --------------------------------------------------------------------------------------------------------
 */

/* The endpoint for `link`, which is that of `proc`; NULL when memory is exhausted. */
static struct mca_btl_base_endpoint_t *make_endpoint(struct ninja_link *link,
                                                     struct opal_proc_t *proc)
{
    struct mca_btl_base_endpoint_t *endpoint = calloc(1, sizeof(*endpoint));
    struct mca_btl_base_endpoint_t *known;

    if (endpoint == NULL)
        return NULL;
    endpoint->proc = proc;
    endpoint->link = link;
    known = ninja_core_adopt(link, endpoint);
    if (known != endpoint)
        free(endpoint);
    return known;
}

/* The endpoint of a peer that has written before Open MPI named it to us; NULL if there is none. */
static struct mca_btl_base_endpoint_t *make_endpoint_early(struct ninja_link *link)
{
    opal_process_name_t name = {.jobid = (opal_jobid_t)(link->peer >> 32),
                                .vpid = (opal_vpid_t)link->peer};
    struct opal_proc_t *proc = opal_proc_for_name(name);

    return proc != NULL ? make_endpoint(link, proc) : NULL;
}

/* The endpoint for `proc`, or NULL if it cannot be reached by us. */
static struct mca_btl_base_endpoint_t *connect_endpoint(struct opal_proc_t *proc)
{
    struct mca_btl_base_endpoint_t *endpoint = NULL;
    struct ninja_link *link;
    void *contact = NULL;
    size_t size = 0;

    if (ninja_modex_receive(MCA_BTL_NINJA_VERSION, &proc->proc_name, &contact, &size) !=
        OPAL_SUCCESS)
        return NULL; /* it does not run btl/ninja */
    if (proc->proc_arch != opal_proc_local_get()->proc_arch) {
        free(contact);
        return NULL;
    }
    link = ninja_core_connect(ninja_process_core(), peer_id(&proc->proc_name), contact, size, NULL);
    if (link != NULL)
        endpoint = make_endpoint(link, proc);
    else
        opal_output(0, "btl/ninja: the contact of a peer is not understood: do all nodes run "
                       "the same version?");
    free(contact);
    return endpoint;
}

static int ninja_add_procs(mca_btl_base_module_t *btl, size_t nprocs, struct opal_proc_t **procs,
                           struct mca_btl_base_endpoint_t **endpoints,
                           struct opal_bitmap_t *reachable)
{
    const struct opal_proc_t *self = opal_proc_local_get();

    for (size_t i = 0; i < nprocs; i++) {
        endpoints[i] = NULL;
        if (procs[i] == self)
            continue;
        endpoints[i] = connect_endpoint(procs[i]);
        if (endpoints[i] != NULL && reachable != NULL &&
            opal_bitmap_set_bit(reachable, (int)i) != OPAL_SUCCESS)
            return OPAL_ERR_OUT_OF_RESOURCE;
    }
    return OPAL_SUCCESS;
}

static int ninja_del_procs(mca_btl_base_module_t *btl, size_t nprocs, struct opal_proc_t **procs,
                           struct mca_btl_base_endpoint_t **endpoints)
{
    for (size_t i = 0; i < nprocs; i++) {
        if (endpoints[i] == NULL)
            continue;
        ninja_core_disconnect(endpoints[i]->link);
        free(endpoints[i]);
    }
    return OPAL_SUCCESS;
}

/* --- Descriptors
 * --------------------------------------------------------------------------------------------------
 */

static mca_btl_ninja_fragment_t *take_fragment(void)
{
    return (mca_btl_ninja_fragment_t *)opal_free_list_get(&mca_btl_ninja_component.fragments);
}

static void return_fragment(mca_btl_ninja_fragment_t *fragment)
{
    if (fragment->frame != NULL)
        ninja_core_frame_free(ninja_process_core(), fragment->frame);
    fragment->frame = NULL;
    opal_free_list_return(&mca_btl_ninja_component.fragments, &fragment->base.super);
}

/* A descriptor with `size` bytes of memory in its first segment; NULL when ob1 should wait. */
static mca_btl_ninja_fragment_t *make_fragment(struct mca_btl_base_endpoint_t *endpoint,
                                               size_t size, uint32_t flags)
{
    mca_btl_ninja_fragment_t *fragment;

    if (size > CONTROL_MAX && ninja_core_congested(endpoint->link))
        return NULL;
    fragment = take_fragment();
    if (fragment == NULL)
        return NULL;
    fragment->frame = ninja_core_frame_new(ninja_process_core(), size);
    if (fragment->frame == NULL) {
        return_fragment(fragment);
        return NULL;
    }
    fragment->endpoint = endpoint;
    fragment->segments[0].seg_addr.pval = fragment->frame->data;
    fragment->segments[0].seg_len = size;
    fragment->base.des_segments = fragment->segments;
    fragment->base.des_segment_count = 1;
    fragment->base.des_flags = flags;
    fragment->base.order = MCA_BTL_NO_ORDER;
    return fragment;
}

static mca_btl_base_descriptor_t *ninja_alloc(mca_btl_base_module_t *btl,
                                              struct mca_btl_base_endpoint_t *endpoint,
                                              uint8_t order, size_t size, uint32_t flags)
{
    mca_btl_ninja_fragment_t *fragment = make_fragment(endpoint, size, flags);

    return fragment != NULL ? &fragment->base : NULL;
}

static int ninja_free(mca_btl_base_module_t *btl, mca_btl_base_descriptor_t *descriptor)
{
    return_fragment((mca_btl_ninja_fragment_t *)descriptor);
    return OPAL_SUCCESS;
}

/* Packs up to `size` bytes behind `offset` of the frame; returns how many, or -1. */
static ssize_t pack_inline(struct opal_convertor_t *convertor, struct ninja_frame *frame,
                           size_t offset, size_t size)
{
    struct iovec piece = {.iov_base = (IOVBASE_TYPE *)(frame->data + offset), .iov_len = size};
    uint32_t count = 1;
    size_t packed = size;

    return opal_convertor_pack(convertor, &piece, &count, &packed) < 0 ? -1 : (ssize_t)packed;
}

static mca_btl_base_descriptor_t *ninja_prepare_src(mca_btl_base_module_t *btl,
                                                    struct mca_btl_base_endpoint_t *endpoint,
                                                    struct opal_convertor_t *convertor,
                                                    uint8_t order, size_t reserve, size_t *size,
                                                    uint32_t flags)
{
    bool contiguous = ninja_convertor_in_place(convertor);
    bool in_place = contiguous && *size + reserve > COPY_MAX;
    mca_btl_ninja_fragment_t *fragment;

    if (*size + reserve > btl->btl_max_send_size)
        *size = btl->btl_max_send_size - reserve;
    fragment = make_fragment(endpoint, in_place ? reserve : reserve + *size, flags);
    if (fragment == NULL)
        return NULL;
    if (in_place || (contiguous && *size >= NINJA_COPY_LATE_BYTES)) {
        struct iovec piece = {.iov_base = NULL, .iov_len = *size};
        uint32_t count = 1;
        size_t packed = *size;

        (void)opal_convertor_pack(convertor, &piece, &count, &packed);
        fragment->segments[0].seg_len = reserve;
        fragment->segments[1].seg_addr.pval = piece.iov_base;
        fragment->segments[1].seg_len = packed;
        fragment->base.des_segment_count = 2;
        *size = packed;
    } else {
        ssize_t packed = pack_inline(convertor, fragment->frame, reserve, *size);

        if (packed < 0) {
            return_fragment(fragment);
            return NULL;
        }
        fragment->segments[0].seg_len = reserve + (size_t)packed;
        *size = (size_t)packed;
    }
    return &fragment->base;
}

/* --- Sending
 * ------------------------------------------------------------------------------------------------------
 */

/* ob1 hears of the end of a send that it was told is under way. */
static void send_complete(void *context, int status)
{
    mca_btl_ninja_fragment_t *fragment = context;
    bool ours = (fragment->base.des_flags & MCA_BTL_DES_FLAGS_BTL_OWNERSHIP) != 0;

    if ((fragment->base.des_flags & MCA_BTL_DES_SEND_ALWAYS_CALLBACK) &&
        fragment->base.des_cbfunc != NULL)
        fragment->base.des_cbfunc(&mca_btl_ninja_module, fragment->endpoint, &fragment->base,
                                  status == 0 ? OPAL_SUCCESS : OPAL_ERROR);
    if (ours)
        return_fragment(fragment);
}

/* Sends a copy of a message whose descriptor is changed and sent again when this is complete. */
static int send_again(mca_btl_ninja_fragment_t *fragment, mca_btl_base_tag_t tag)
{
    struct ninja_core *core = ninja_process_core();
    size_t size = fragment->segments[0].seg_len;
    struct ninja_frame *frame = ninja_core_frame_new(core, size);

    if (frame == NULL)
        return OPAL_ERR_OUT_OF_RESOURCE;
    memcpy(frame->data, fragment->frame->data, size);
    frame->inline_length = (uint32_t)size;
    if (ninja_core_send(fragment->endpoint->link, frame, tag, send_complete, fragment))
        ninja_core_complete_later(core, send_complete, fragment);
    return 0;
}

static int ninja_send(mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint,
                      mca_btl_base_descriptor_t *descriptor, mca_btl_base_tag_t tag)
{
    mca_btl_ninja_fragment_t *fragment = (mca_btl_ninja_fragment_t *)descriptor;
    struct ninja_frame *frame = fragment->frame;
    uint32_t flags = descriptor->des_flags;

    fragment->endpoint = endpoint;
    if (ninja_sends_again(tag))
        return send_again(fragment, tag);
    frame->inline_length = (uint32_t)fragment->segments[0].seg_len;
    if (descriptor->des_segment_count > 1) {
        frame->place = fragment->segments[1].seg_addr.pval;
        frame->place_length = (uint32_t)fragment->segments[1].seg_len;
    }
    fragment->frame = NULL;
    /* If it does not complete at once, ob1 is called later, whatever it asked for. */
    descriptor->des_flags |= MCA_BTL_DES_SEND_ALWAYS_CALLBACK;
    if (!ninja_core_send(endpoint->link, frame, tag, send_complete, fragment))
        return 0;
    descriptor->des_flags = flags;
    send_complete(fragment, 0);
    return 1;
}

static int ninja_sendi(mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint,
                       struct opal_convertor_t *convertor, void *header, size_t header_size,
                       size_t payload_size, uint8_t order, uint32_t flags, mca_btl_base_tag_t tag,
                       mca_btl_base_descriptor_t **descriptor)
{
    void *payload = NULL;

    if (payload_size > 0 && !ninja_convertor_in_place(convertor))
        goto by_descriptor;
    if (payload_size > 0)
        opal_convertor_get_current_pointer(convertor, &payload);
    if (header_size + payload_size <= btl->btl_eager_limit &&
        ninja_core_send_copy(endpoint->link, tag, header, header_size, payload, payload_size) == 0)
        return OPAL_SUCCESS;

by_descriptor:
    if (descriptor != NULL)
        *descriptor = ninja_alloc(btl, endpoint, order, header_size + payload_size, flags);
    return OPAL_ERR_OUT_OF_RESOURCE;
}

/* --- Registering
 * ------------------------------------------------------------------------------------------------------
 */

/* For memory that peers must ask us for, and for that which a get writes to. */
static mca_btl_base_registration_handle_t not_exposed;

static mca_btl_base_registration_handle_t *
ninja_register_mem(mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint, void *base,
                   size_t size, uint32_t flags)
{
    mca_btl_base_registration_handle_t *handle;

    if (endpoint == NULL || endpoint == MCA_BTL_ENDPOINT_ANY ||
        (flags & MCA_BTL_REG_FLAG_REMOTE_READ) == 0)
        return &not_exposed;
    handle = malloc(sizeof(*handle));
    if (handle == NULL)
        return &not_exposed;
    ninja_core_expose(endpoint->link, base, size, &handle->exposure);
    if (handle->exposure.transport != NULL)
        return handle;
    free(handle);
    return &not_exposed;
}

static int ninja_deregister_mem(mca_btl_base_module_t *btl,
                                mca_btl_base_registration_handle_t *handle)
{
    if (handle == NULL || handle == &not_exposed)
        return OPAL_SUCCESS;
    if (ninja_process_core() != NULL)
        ninja_core_conceal(ninja_process_core(), &handle->exposure);
    free(handle);
    return OPAL_SUCCESS;
}

/* --- Getting
 * ------------------------------------------------------------------------------------------------------
 */

static void get_complete(void *context, int status)
{
    mca_btl_ninja_fragment_t *fragment = context;

    fragment->get_callback(&mca_btl_ninja_module, fragment->endpoint, fragment->local_address,
                           fragment->local_handle, fragment->get_context, fragment->get_data,
                           status == 0 ? OPAL_SUCCESS : OPAL_ERROR);
    return_fragment(fragment);
}

static int ninja_get(mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint,
                     void *local_address, uint64_t remote_address,
                     struct mca_btl_base_registration_handle_t *local_handle,
                     struct mca_btl_base_registration_handle_t *remote_handle, size_t size,
                     int flags, int order, mca_btl_base_rdma_completion_fn_t callback,
                     void *context, void *data)
{
    mca_btl_ninja_fragment_t *fragment = take_fragment();
    struct ninja_key key = {.instance = 0};

    if (fragment == NULL)
        return OPAL_ERR_OUT_OF_RESOURCE;
    /* It lies in ob1's packet, wherever that is. */
    if (remote_handle != NULL)
        memcpy(&key, remote_handle, sizeof(key));
    fragment->frame = NULL;
    fragment->endpoint = endpoint;
    fragment->local_address = local_address;
    fragment->local_handle = local_handle;
    fragment->get_callback = callback;
    fragment->get_context = context;
    fragment->get_data = data;
    if (ninja_core_get(endpoint->link, &key, local_address, remote_address, size, get_complete,
                       fragment) != 0) {
        return_fragment(fragment);
        return OPAL_ERR_OUT_OF_RESOURCE;
    }
    return OPAL_SUCCESS;
}

/* --- Receiving and failing
 * ---------------------------------------------------------------------------------------- */

void mca_btl_ninja_receive(struct ninja_link *link, uint8_t tag, const void *payload, size_t size)
{
    mca_btl_base_segment_t segment = {.seg_addr.pval = (void *)payload, .seg_len = size};
    struct mca_btl_base_endpoint_t *endpoint = link->user;

    if (endpoint == NULL && ninja_needs_endpoint(tag))
        endpoint = make_endpoint_early(link);
    ninja_call_receive(&mca_btl_ninja_module, endpoint, tag, &segment);
}

void mca_btl_ninja_lost(struct ninja_link *link, int error)
{
    struct mca_btl_base_endpoint_t *endpoint = link->user;

    if (mca_btl_ninja_component.error_callback != NULL)
        mca_btl_ninja_component.error_callback(&mca_btl_ninja_module, MCA_BTL_ERROR_FLAGS_FATAL,
                                               endpoint != NULL ? endpoint->proc : NULL,
                                               "btl/ninja: peer lost");
}

static int ninja_register_error(mca_btl_base_module_t *btl,
                                mca_btl_base_module_error_cb_fn_t callback)
{
    mca_btl_ninja_component.error_callback = callback;
    return OPAL_SUCCESS;
}

static int ninja_finalize(mca_btl_base_module_t *btl)
{
    struct ninja_core *core = ninja_process_core();

    ninja_process_set_core(NULL);
    for (struct ninja_link *link = core->links; link != NULL; link = link->next) {
        free(link->user);
        link->user = NULL;
    }
    ninja_core_destroy(core);
    return OPAL_SUCCESS;
}

mca_btl_base_module_t mca_btl_ninja_module = {
    .btl_component = &mca_btl_ninja_component.super,
    .btl_add_procs = ninja_add_procs,
    .btl_del_procs = ninja_del_procs,
    .btl_finalize = ninja_finalize,
    .btl_alloc = ninja_alloc,
    .btl_free = ninja_free,
    .btl_prepare_src = ninja_prepare_src,
    .btl_send = ninja_send,
    .btl_sendi = ninja_sendi,
    .btl_register_mem = ninja_register_mem,
    .btl_deregister_mem = ninja_deregister_mem,
    .btl_get = ninja_get,
    .btl_dump = mca_btl_base_dump,
    .btl_register_error = ninja_register_error,
};
