/*
 * btl/ninja: Open MPI's byte transfer layer as a thin face on the core (../../common/core.h).
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef MCA_BTL_NINJA_H
#define MCA_BTL_NINJA_H

#include "ompi-shim.h"

#include "opal/class/opal_free_list.h"

#include "process.h"

/* The component and its only module. */
struct mca_btl_ninja_component_t {
    mca_btl_base_component_t super; /* must be first */
    struct ninja_config config;     /* what the MCA parameters say */
    struct ninja_tuning tuning;     /* those that may change while the job runs */
    opal_free_list_t fragments;     /* of mca_btl_ninja_fragment_t */
    mca_btl_base_module_error_cb_fn_t error_callback;
    bool fragments_made;
};
typedef struct mca_btl_ninja_component_t mca_btl_ninja_component_t;

OPAL_MODULE_DECLSPEC extern mca_btl_ninja_component_t mca_btl_ninja_component;
extern mca_btl_base_module_t mca_btl_ninja_module;

/* A peer, as ob1 holds it. */
struct mca_btl_base_endpoint_t {
    struct ninja_link *link;
    struct opal_proc_t *proc;
};

/* Memory that ob1 has registered; the key at its beginning travels to the peer. */
struct mca_btl_base_registration_handle_t {
    struct ninja_exposure exposure;
};

/* A descriptor: of a send, or of a get. */
struct mca_btl_ninja_fragment_t {
    mca_btl_base_descriptor_t base; /* must be first */
    mca_btl_base_segment_t segments[2];
    struct mca_btl_base_endpoint_t *endpoint;
    struct ninja_frame *frame; /* NULL once the link has it */

    /* Of a get. */
    void *local_address;
    struct mca_btl_base_registration_handle_t *local_handle;
    mca_btl_base_rdma_completion_fn_t get_callback;
    void *get_context;
    void *get_data;
};
typedef struct mca_btl_ninja_fragment_t mca_btl_ninja_fragment_t;
OBJ_CLASS_DECLARATION(mca_btl_ninja_fragment_t);

/* Our component as the framework's macros want it. */
#define MCA_BTL_NINJA_VERSION (&mca_btl_ninja_component.super.btl_version)

/* Registers the performance variables (btl_ninja_pvar.c). */
void mca_btl_ninja_register_variables(void);

/* Called by the core: a message has arrived, a peer is lost. */
void mca_btl_ninja_receive(struct ninja_link *link, uint8_t tag, const void *payload, size_t size);
void mca_btl_ninja_lost(struct ninja_link *link, int error);

#endif
