/*
 * hook/symvirt: sees to it that `mpirun --am ninja` is obeyed, looks at what MPI_Init selected and
 * says clearly if the job cannot be moved; starts the checkpoint thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "ompi_config.h"

#include "ompi-shim.h"

#include "ompi/mca/hook/hook.h"
#include "ompi/mca/pml/base/base.h"
#include "opal/util/output.h"

#include <stdlib.h>
#include <string.h>

#include "hook_symvirt.h"
#include "process.h"

static void at_begin_of_init(int argc, char **argv, int requested, int *provided);
static void at_end_of_init(int argc, char **argv, int requested, int *provided);

OMPI_MODULE_DECLSPEC extern const ompi_hook_base_component_1_0_0_t mca_hook_symvirt_component;

const ompi_hook_base_component_1_0_0_t mca_hook_symvirt_component = {
    .hookm_version =
        {
            OMPI_HOOK_BASE_VERSION_1_0_0,
            .mca_component_name = "symvirt",
            MCA_BASE_MAKE_VERSION(component, OMPI_MAJOR_VERSION, OMPI_MINOR_VERSION,
                                  OMPI_RELEASE_VERSION),
        },
    .hookm_data = {MCA_BASE_METADATA_PARAM_CHECKPOINT},
    .hookm_mpi_init_top_post_opal = at_begin_of_init,
    .hookm_mpi_init_bottom = at_end_of_init,
    .hookm_mpi_finalize_top = hook_checkpoint_stop,
};

/* Components that open the HCA for themselves: it could never be given up. */
static const char *other_holder(void)
{
    mca_btl_base_selected_module_t *selected;

    OPAL_LIST_FOREACH(selected, &mca_btl_base_modules_initialized, mca_btl_base_selected_module_t)
    {
        const char *name = selected->btl_component->btl_version.mca_component_name;

        if (strcmp(name, "openib") == 0 || strcmp(name, "ofi") == 0 || strcmp(name, "uct") == 0)
            return name;
    }
    return NULL;
}

/* The user wants btl/ninja, whether or not Open MPI came to open it. */
static bool asked_for(void)
{
    const char *btl = getenv("OMPI_MCA_btl");

    return ninja_process_core() != NULL ||
           (btl != NULL && btl[0] != '^' && strstr(btl, "ninja") != NULL);
}

static void check_selection(void)
{
    const char *pml = mca_pml_base_selected_component.pmlm_version.mca_component_name;
    const char *holder = other_holder();

    if (!ninja_series_matches() || !asked_for())
        return; /* the BTL has said why, or this job does not ask for it */
    if (strcmp(pml, "ob1") != 0)
        opal_output(0,
                    "hook/symvirt: btl/ninja is asked for, but pml/%s carries the messages: this "
                    "job cannot give up its HCA. Start it with 'mpirun --am ninja'.",
                    pml);
    else if (holder != NULL)
        opal_output(0,
                    "hook/symvirt: btl/%s holds the HCA besides btl/ninja: this job cannot give it "
                    "up. Start it with 'mpirun --am ninja', or with '--mca btl ninja,vader,self'.",
                    holder);
}

static void at_begin_of_init(int argc, char **argv, int requested, int *provided)
{
    hook_parameters_read();
}

static void at_end_of_init(int argc, char **argv, int requested, int *provided)
{
    check_selection();
    if (ninja_series_matches())
        hook_checkpoint_start();
}
