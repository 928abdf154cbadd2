/*
 * btl/ninja, the component: parameters, and the start of this process's core.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "btl_ninja.h"

#include <stdio.h>

#include "opal/mca/base/mca_base_var.h"
#include "opal/util/output.h"
#include "opal/util/proc.h"

/* Not among the core's own defaults: cores of tests and benchmarks need no hooks. */
#define REGISTRATION_LIMIT (256UL << 20)

static int ninja_register_parameters(void);
static int ninja_open(void);
static int ninja_close(void);
static mca_btl_base_module_t **ninja_init(int *count, bool progress_threads, bool mpi_threads);
static int ninja_progress(void);

mca_btl_ninja_component_t mca_btl_ninja_component = {
    .super =
        {
            .btl_version =
                {
                    MCA_BTL_DEFAULT_VERSION("ninja"),
                    .mca_open_component = ninja_open,
                    .mca_close_component = ninja_close,
                    .mca_register_component_params = ninja_register_parameters,
                },
            .btl_data = {.param_field = MCA_BASE_METADATA_PARAM_CHECKPOINT},
            .btl_init = ninja_init,
            .btl_progress = ninja_progress,
        },
};

/* --- Parameters
 * ---------------------------------------------------------------------------------------------------
 */

static void text_parameter(const char *name, const char *help, const char **storage)
{
    (void)mca_base_component_var_register(MCA_BTL_NINJA_VERSION, name, help,
                                          MCA_BASE_VAR_TYPE_STRING, NULL, 0, 0, OPAL_INFO_LVL_4,
                                          MCA_BASE_VAR_SCOPE_READONLY, storage);
}

/* A number that holds for the whole job. */
static void fixed_parameter(const char *name, const char *help, mca_base_var_type_t type,
                            void *storage)
{
    (void)mca_base_component_var_register(MCA_BTL_NINJA_VERSION, name, help, type, NULL, 0, 0,
                                          OPAL_INFO_LVL_5, MCA_BASE_VAR_SCOPE_READONLY, storage);
}

/* A parameter that may be changed while the job runs, through MPI_T: the core reads `storage`. */
static void live_parameter(const char *name, const char *help, mca_base_var_type_t type,
                           mca_base_var_info_lvl_t level, void *storage)
{
    (void)mca_base_component_var_register(MCA_BTL_NINJA_VERSION, name, help, type, NULL, 0,
                                          MCA_BASE_VAR_FLAG_SETTABLE, level,
                                          MCA_BASE_VAR_SCOPE_LOCAL, storage);
}

static void time_parameter(const char *name, const char *help, unsigned *storage)
{
    live_parameter(name, help, MCA_BASE_VAR_TYPE_UNSIGNED_INT, OPAL_INFO_LVL_5, storage);
}

static void bytes_parameter(const char *name, const char *help, unsigned long *storage)
{
    live_parameter(name, help, MCA_BASE_VAR_TYPE_UNSIGNED_LONG, OPAL_INFO_LVL_5, storage);
}

static void register_module_parameters(void)
{
    mca_btl_base_module_t *module = &mca_btl_ninja_module;

    module->btl_exclusivity = MCA_BTL_EXCLUSIVITY_DEFAULT;
    module->btl_eager_limit = 128 * 1024;
    module->btl_rndv_eager_limit = 128 * 1024;
    module->btl_max_send_size = 128 * 1024;
    module->btl_rdma_pipeline_send_length = 128 * 1024;
    module->btl_rdma_pipeline_frag_size = 8 * 1024 * 1024;
    module->btl_min_rdma_pipeline_size = 0;
    module->btl_flags = MCA_BTL_FLAGS_SEND | MCA_BTL_FLAGS_SEND_INPLACE | MCA_BTL_FLAGS_GET;
    module->btl_get_limit = SIZE_MAX;
    module->btl_get_alignment = 0;
    module->btl_registration_handle_size = sizeof(struct ninja_key);
    module->btl_bandwidth = 10000;
    module->btl_latency = 10;
    (void)mca_btl_base_param_register(&mca_btl_ninja_component.super.btl_version, module);
}

static void register_tuning(struct ninja_tuning *tuning)
{
    ninja_tuning_default(tuning);
    time_parameter("drain_limit", "Milliseconds that a path may drain before it is closed by force",
                   &tuning->drain_limit_ms);
    time_parameter("release_limit",
                   "Milliseconds after which a release that is not complete is reported as failed",
                   &tuning->release_limit_ms);
    time_parameter("open_limit",
                   "Milliseconds that the handshake of a new path may take; 0: any time",
                   &tuning->open_limit_ms);
    time_parameter("retry",
                   "Milliseconds before a failed path is tried again; doubles up to 64 times",
                   &tuning->retry_ms);
    time_parameter(
        "refused_limit",
        "Milliseconds after which a peer that keeps refusing connections is reported as lost; 0: "
        "never",
        &tuning->refused_limit_ms);
    bytes_parameter(
        "retain_low",
        "Bytes kept for replay per peer above which a small send completes only when it is "
        "acknowledged",
        &tuning->retain_low);
    bytes_parameter("retain_high",
                    "Bytes kept for replay per peer above which Open MPI is asked to wait",
                    &tuning->retain_high);
    bytes_parameter(
        "inbox_limit",
        "Bytes of messages per peer that are taken in while the application is outside MPI",
        &tuning->inbox_limit);
    live_parameter("verbose",
                   "0: errors only; 1: switches; 2: every event of every path; 3: connections",
                   MCA_BASE_VAR_TYPE_INT, OPAL_INFO_LVL_4, &tuning->verbose);
}

static int ninja_register_parameters(void)
{
    struct ninja_config *config = &mca_btl_ninja_component.config;

    ninja_config_default(config);
    text_parameter("lifeline",
                   "Interface name, address or network (CIDR) of the lifeline, the TCP connection "
                   "that is always "
                   "there; it must keep its address when the VM moves (default: the interface of "
                   "the default route)",
                   &config->lifeline);
    text_parameter(
        "fabrics",
        "Fabrics to use besides those that the guest agent names, as "
        "NAME=TRANSPORT@DEVICE,...; transports: "
        "verbs (an RDMA device), ucx (the same by UCX), tcp (a second network interface)",
        &config->fabrics);
    text_parameter(
        "control_dir",
        "Directory of the rank's control socket, JOBID.RANK.sock (default: NINJA_CONTROL_DIR or "
        "/tmp/ninja-ranks-UID)",
        &config->control_dir);
    text_parameter("agent",
                   "Socket of the guest agent, or 'none' (default: /run/symvirt/agent.sock; an "
                   "absent agent is normal)",
                   &config->agent);
    text_parameter(
        "fault",
        "Fault injection, for tests, as KEY=NUMBER,...; off by default. One of so many frames "
        "meets "
        "the fault: drop (lost, then its path breaks), duplicate, delay, reorder, reset (its path "
        "breaks), kill (the device of its fabric is gone); over verbs also post (a request is not "
        "taken), completion (one ends with an error), queue, fatal (the device says that a queue "
        "of all paths, or it itself, failed). hold: longest delay in milliseconds "
        "(20); gone: milliseconds after which a killed device is back (500; 0: never); seed: of "
        "the choices (another one for each job; it is printed)",
        &config->fault);
    text_parameter("congestion",
                   "TCP's congestion control for the lifeline and tcp fabrics, by name; empty: the "
                   "system's; 'auto' (default): the system's, but reno in place of bbr to peers "
                   "less than 1 ms away",
                   &config->congestion);
    fixed_parameter("handshakes",
                    "New paths that are being opened at a time, by this rank and by its peers "
                    "each; the others wait for their turn, busy links first",
                    MCA_BASE_VAR_TYPE_UNSIGNED_INT, &config->handshakes);
    fixed_parameter("pool_limit",
                    "Bytes of memory for messages under way that are kept for the next ones "
                    "although none is in use; what is not needed for a second is given back in any "
                    "case",
                    MCA_BASE_VAR_TYPE_UNSIGNED_LONG, &config->pool_limit);
    config->registration_limit = REGISTRATION_LIMIT;
    fixed_parameter("registration_limit",
                    "Bytes of the application's memory that stay registered with an RDMA device "
                    "after a message, for the next one, and that peers may read at a time; at most "
                    "half of what may be locked (ulimit -l). 0: none",
                    MCA_BASE_VAR_TYPE_UNSIGNED_LONG, &config->registration_limit);
    register_tuning(&mca_btl_ninja_component.tuning);
    register_module_parameters();
    mca_btl_ninja_register_variables();
    return OPAL_SUCCESS;
}

/* --- Start and end
 * ------------------------------------------------------------------------------------------------
 */

static int ninja_open(void)
{
    if (!ninja_series_matches()) {
        opal_output(0,
                    "btl/ninja was built for Open MPI %d.%d but is loaded into Open MPI %s: it is "
                    "not used. Build "
                    "and install it for this series.",
                    OPAL_MAJOR_VERSION, OPAL_MINOR_VERSION, opal_version_string);
        return OPAL_ERR_NOT_AVAILABLE;
    }
    return OPAL_SUCCESS;
}

static int ninja_close(void)
{
    if (mca_btl_ninja_component.fragments_made)
        OBJ_DESTRUCT(&mca_btl_ninja_component.fragments);
    mca_btl_ninja_component.fragments_made = false;
    return OPAL_SUCCESS;
}

static int make_fragments(void)
{
    OBJ_CONSTRUCT(&mca_btl_ninja_component.fragments, opal_free_list_t);
    mca_btl_ninja_component.fragments_made = true;
    return opal_free_list_init(&mca_btl_ninja_component.fragments, sizeof(mca_btl_ninja_fragment_t),
                               opal_cache_line_size, OBJ_CLASS(mca_btl_ninja_fragment_t), 0, 0, 64,
                               -1, 256, NULL, 0, NULL, NULL, NULL);
}

/* Makes the core, publishes how to reach it, starts its control thread. */
static int start_core(bool threads)
{
    static const struct ninja_callbacks callbacks = {
        .receive = mca_btl_ninja_receive,
        .lost = mca_btl_ninja_lost,
    };
    struct ninja_config config = mca_btl_ninja_component.config;
    opal_process_name_t self = OPAL_PROC_MY_NAME;
    unsigned char contact[NINJA_CONTACT_MAX];
    struct ninja_core *core = NULL;
    size_t size = 0;
    char why[256] = "", name[32];
    int rc;

    config.threads = threads;
    config.tuning = &mca_btl_ninja_component.tuning;
    snprintf(name, sizeof(name), "%u.%u", (unsigned)self.jobid, (unsigned)self.vpid);
    rc = ninja_core_create(&core, &config, &callbacks, (uint64_t)self.jobid << 32 | self.vpid, name,
                           why, sizeof(why));
    if (rc == 0)
        rc = ninja_core_contact(core, contact, &size);
    if (rc == 0 && ninja_modex_send(MCA_BTL_NINJA_VERSION, contact, size) != OPAL_SUCCESS) {
        snprintf(why, sizeof(why), "Open MPI does not publish our address");
        rc = -EIO;
    }
    if (rc == 0)
        rc = ninja_core_start(core, why, sizeof(why));
    if (rc != 0) {
        opal_output(0, "btl/ninja cannot be used by rank %s: %s", name,
                    why[0] != '\0' ? why : strerror(-rc));
        ninja_core_destroy(core);
        return OPAL_ERROR;
    }
    ninja_process_set_core(core);
    return OPAL_SUCCESS;
}

/* A frame that is too large the peer would take for garbage, and an eager message that does not fit
 * into one would be cut off. */
static void limit_size(size_t *size, size_t limit, const char *name)
{
    if (*size <= limit)
        return;
    opal_output(0,
                "btl/ninja: btl_ninja_%s is %zu bytes, but no more than %zu can be: so it is now",
                name, *size, limit);
    *size = limit;
}

static mca_btl_base_module_t **ninja_init(int *count, bool progress_threads, bool mpi_threads)
{
    mca_btl_base_module_t *module = &mca_btl_ninja_module;
    mca_btl_base_module_t **modules;

    *count = 0;
    limit_size(&module->btl_max_send_size, NINJA_FRAME_PAYLOAD_MAX, "max_send_size");
    limit_size(&module->btl_eager_limit, module->btl_max_send_size, "eager_limit");
    limit_size(&module->btl_rndv_eager_limit, module->btl_max_send_size, "rndv_eager_limit");
    if (make_fragments() != OPAL_SUCCESS || start_core(mpi_threads) != OPAL_SUCCESS)
        return NULL;
    modules = malloc(sizeof(mca_btl_base_module_t *));
    if (modules == NULL)
        return NULL;
    modules[0] = &mca_btl_ninja_module;
    *count = 1;
    return modules;
}

static int ninja_progress(void)
{
    return ninja_core_progress(ninja_process_core());
}
