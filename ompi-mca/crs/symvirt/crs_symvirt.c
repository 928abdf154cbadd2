/*
 * crs/symvirt: the checkpointer of a process whose VM is moved. A checkpoint gives up the devices
 * of all fabrics, waits until they are back, and reports CONTINUE or ERROR. Nothing is written to
 * disk: the VM's memory is the snapshot.
 *
 * Stock Open MPI 4.1 neither opens this framework nor takes checkpoints by itself; hook/symvirt
 * does.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "opal_config.h"

#include "ompi-shim.h"

#include "opal/mca/base/mca_base_var.h"
#include "opal/mca/crs/base/base.h"
#include "opal/mca/crs/crs.h"

#include <pthread.h>
#include <unistd.h>

#include "process.h"

static int crs_register(void);
static int crs_query(mca_base_module_t **module, int *priority);

OPAL_MODULE_DECLSPEC extern const opal_crs_base_component_t mca_crs_symvirt_component;

const opal_crs_base_component_t mca_crs_symvirt_component = {
    .base_version =
        {
            OPAL_CRS_BASE_VERSION_2_0_0,
            .mca_component_name = "symvirt",
            MCA_BASE_MAKE_VERSION(component, OPAL_MAJOR_VERSION, OPAL_MINOR_VERSION,
                                  OPAL_RELEASE_VERSION),
            .mca_query_component = crs_query,
            .mca_register_component_params = crs_register,
        },
    .base_data = {MCA_BASE_METADATA_PARAM_CHECKPOINT},
    .output_handle = -1,
};

static unsigned limit_s;

/* Checkpoints wait while they are disabled. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned disabled;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int crs_register(void)
{
    limit_s = 0;
    (void)mca_base_component_var_register(
        &mca_crs_symvirt_component.base_version, "limit",
        "Seconds that a checkpoint waits for the devices to come back, once all are given up; then "
        "the job goes on without them (default 0: for ever)",
        MCA_BASE_VAR_TYPE_UNSIGNED_INT, NULL, 0, 0, OPAL_INFO_LVL_5, MCA_BASE_VAR_SCOPE_LOCAL,
        &limit_s);
    return OPAL_SUCCESS;
}

static int crs_init(void)
{
    return OPAL_SUCCESS;
}

static int crs_finalize(void)
{
    return OPAL_SUCCESS;
}

/* May wait for hours. By any thread but the core's own. */
static int crs_checkpoint(pid_t pid, opal_crs_base_snapshot_t *snapshot,
                          opal_crs_base_ckpt_options_t *options, opal_crs_state_type_t *state)
{
    struct ninja_core *core = ninja_process_core();
    char why[256];
    int rc;

    *state = OPAL_CRS_ERROR;
    if ((pid != 0 && pid != getpid()) || core == NULL)
        return OPAL_ERR_NOT_SUPPORTED; /* of another process, or one that does not use btl/ninja */
    pthread_mutex_lock(&gate.lock);
    while (gate.disabled > 0)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    rc = ninja_core_quiesce(core, limit_s < 4000000 ? limit_s * 1000 : 0, why, sizeof(why));
    ninja_log(core, 1, "crs/symvirt: checkpoint: %s: %s", rc == 0 ? "CONTINUE" : "ERROR", why);
    if (rc != 0)
        return OPAL_ERROR;
    *state = OPAL_CRS_CONTINUE;
    return OPAL_SUCCESS;
}

/* There is nothing to restart from: the process never ends. */
static int crs_restart(opal_crs_base_snapshot_t *snapshot, bool spawn_child, pid_t *child_pid)
{
    return OPAL_ERR_NOT_SUPPORTED;
}

static int crs_disable_checkpoint(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.disabled++;
    pthread_mutex_unlock(&gate.lock);
    return OPAL_SUCCESS;
}

static int crs_enable_checkpoint(void)
{
    pthread_mutex_lock(&gate.lock);
    if (gate.disabled > 0)
        gate.disabled--;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
    return OPAL_SUCCESS;
}

static int crs_prelaunch(int32_t rank, char *base_snapshot_dir, char **app, char **cwd,
                         char ***argv, char ***env)
{
    return OPAL_SUCCESS;
}

static int crs_register_thread(void)
{
    return OPAL_SUCCESS;
}

static opal_crs_base_module_t module = {
    .crs_init = crs_init,
    .crs_finalize = crs_finalize,
    .crs_checkpoint = crs_checkpoint,
    .crs_restart = crs_restart,
    .crs_disable_checkpoint = crs_disable_checkpoint,
    .crs_enable_checkpoint = crs_enable_checkpoint,
    .crs_prelaunch = crs_prelaunch,
    .crs_reg_thread = crs_register_thread,
};

/* Never chosen but by name. */
static int crs_query(mca_base_module_t **chosen, int *priority)
{
    *priority = 0;
    *chosen = (mca_base_module_t *)&module;
    return OPAL_SUCCESS;
}
