/*
 * hook/symvirt: the checkpoint thread. Opens the crs framework of Open MPI 4.1 when the user
 * selects crs/symvirt, and takes a checkpoint whenever the core is asked to release a fabric.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "ompi_config.h"

#include "ompi-shim.h"

#include "hook_symvirt.h"

#ifdef HAVE_OMPI_CRS

#include "opal/mca/base/mca_base_framework.h"
#include "opal/mca/crs/base/base.h"
#include "opal/runtime/opal_cr.h"
#include "opal/util/output.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "process.h"

static struct {
    struct ninja_core *core;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool registered; /* the framework */
    bool open;
    bool running;
    bool ready; /* the thread is known to the core */
    bool wanted;
    bool stop;
    /* Made by the main thread: at MPI_THREAD_SINGLE Open MPI's objects are its own. */
    opal_crs_base_snapshot_t *snapshot;
    opal_crs_base_ckpt_options_t *options;
} checkpoint = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void signal_change(bool *flag)
{
    pthread_mutex_lock(&checkpoint.lock);
    *flag = true;
    pthread_cond_broadcast(&checkpoint.changed);
    pthread_mutex_unlock(&checkpoint.lock);
}

/* The core asks for a checkpoint. By its control thread. */
static void on_wanted(void *context)
{
    signal_change(&checkpoint.wanted);
}

static const char *state_name(int state)
{
    return state == OPAL_CRS_CONTINUE ? "CONTINUE" : state == OPAL_CRS_ERROR ? "ERROR" : "?";
}

/* Through Open MPI's own entry, as a checkpointer is called. Not opal_cr_inc_core(): what it does
 * before and after was removed from MPI itself, and crashes. */
static void take_checkpoint(void)
{
    int state = OPAL_CRS_NONE;

    (void)opal_cr_inc_core_ckpt(getpid(), checkpoint.snapshot, checkpoint.options, &state);
    ninja_log(checkpoint.core, 1, "hook/symvirt: opal_cr_inc_core_ckpt() ended with %s",
              state_name(state));
}

static void *run(void *unused)
{
    ninja_core_set_checkpointer(checkpoint.core, on_wanted, NULL);
    signal_change(&checkpoint.ready);
    for (;;) {
        bool stop;

        pthread_mutex_lock(&checkpoint.lock);
        while (!checkpoint.wanted && !checkpoint.stop)
            pthread_cond_wait(&checkpoint.changed, &checkpoint.lock);
        checkpoint.wanted = false;
        stop = checkpoint.stop;
        pthread_mutex_unlock(&checkpoint.lock);
        if (stop)
            return NULL;
        take_checkpoint();
    }
}

/* The user names symvirt in `--mca crs`. */
static bool selected(void)
{
    const char *selection;

    if (mca_base_framework_register(&opal_crs_base_framework, MCA_BASE_REGISTER_DEFAULT) !=
        OPAL_SUCCESS)
        return false;
    checkpoint.registered = true;
    selection = opal_crs_base_framework.framework_selection;
    return selection != NULL && strcmp(selection, "symvirt") == 0;
}

static bool open_framework(void)
{
    opal_cr_set_enabled(true); /* or nothing is selected */
    if (mca_base_framework_open(&opal_crs_base_framework, MCA_BASE_OPEN_DEFAULT) != OPAL_SUCCESS)
        return false;
    checkpoint.open = true;
    return opal_crs_base_select() == OPAL_SUCCESS &&
           strcmp(opal_crs_base_selected_component.base_version.mca_component_name, "symvirt") == 0;
}

static bool start_thread(void)
{
    sigset_t all, old;
    int rc;

    checkpoint.snapshot = OBJ_NEW(opal_crs_base_snapshot_t);
    checkpoint.options = OBJ_NEW(opal_crs_base_ckpt_options_t);
    if (checkpoint.snapshot == NULL || checkpoint.options == NULL)
        return false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&checkpoint.thread, NULL, run, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return false;
    pthread_setname_np(checkpoint.thread, "ninja-ckpt");
    checkpoint.running = true;
    pthread_mutex_lock(&checkpoint.lock);
    while (!checkpoint.ready)
        pthread_cond_wait(&checkpoint.changed, &checkpoint.lock);
    pthread_mutex_unlock(&checkpoint.lock);
    return true;
}

void hook_checkpoint_start(void)
{
    bool wanted = selected();

    checkpoint.core = ninja_process_core();
    if (wanted && checkpoint.core == NULL)
        opal_output(0, "hook/symvirt: crs/symvirt is selected, but this job does not use "
                       "btl/ninja: there is nothing to check-point");
    else if (wanted && (!open_framework() || !start_thread()))
        opal_output(0, "hook/symvirt: crs/symvirt cannot be used; releases do without it");
    if (!checkpoint.running)
        hook_checkpoint_stop();
}

void hook_checkpoint_stop(void)
{
    if (checkpoint.running) {
        ninja_core_set_checkpointer(checkpoint.core, NULL, NULL);
        signal_change(&checkpoint.stop);
        pthread_join(checkpoint.thread, NULL);
        checkpoint.running = false;
    }
    if (checkpoint.snapshot != NULL)
        OBJ_RELEASE(checkpoint.snapshot);
    if (checkpoint.options != NULL)
        OBJ_RELEASE(checkpoint.options);
    checkpoint.snapshot = NULL;
    checkpoint.options = NULL;
    /* Once for each time that it was registered or opened. */
    if (checkpoint.open)
        (void)mca_base_framework_close(&opal_crs_base_framework);
    if (checkpoint.registered)
        (void)mca_base_framework_close(&opal_crs_base_framework);
    checkpoint.open = checkpoint.registered = false;
    opal_cr_set_enabled(false);
}

#else

void hook_checkpoint_start(void)
{
}

void hook_checkpoint_stop(void)
{
}

#endif
