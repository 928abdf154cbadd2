/*
 * Reads the parameter set of `mpirun --am ninja` where Open MPI does not: series 4.1 (4.1.4 was
 * looked at) asks for one file "SET:NEXT FILE" instead of two, finds none, and says nothing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "ompi_config.h"

#include "opal/util/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hook_symvirt.h"

/* The set's name, as it is installed. */
#define SET "ninja"

#if OPAL_MAJOR_VERSION < 5

/* Whether `name`, what the user wrote after --am, is our set or a copy of it elsewhere. */
static bool is_ours(const char *name)
{
    const char *last = strrchr(name, '/');

    return strcmp(last != NULL ? last + 1 : name, SET) == 0;
}

/* Where Open MPI would look: where parameter sets are installed, then in the working directory. */
static FILE *open_set(const char *name)
{
    char path[4096];
    FILE *file = NULL;

    if (strchr(name, '/') == NULL) {
        snprintf(path, sizeof(path), "%s/%s", NINJA_AMCA_DIR, name);
        file = fopen(path, "r");
    }
    return file != NULL ? file : fopen(name, "r");
}

/* `text` without the blanks around it. */
static char *trim(char *text)
{
    size_t length;

    text += strspn(text, " \t\r\n");
    for (length = strlen(text); length > 0 && strchr(" \t\r\n", text[length - 1]) != NULL;)
        text[--length] = '\0';
    return text;
}

/* Sets the parameter of a line "NAME=VALUE", unless the user did: what is in the environment, where
 * mpirun puts what is on its command line, goes before what is in any file. */
static void set_parameter(char *line)
{
    char variable[1100], *name = trim(line), *value = strchr(line, '=');

    if (name[0] == '#' || name[0] == '=' || value == NULL)
        return;
    *value++ = '\0';
    snprintf(variable, sizeof(variable), "OMPI_MCA_%s", trim(name));
    (void)setenv(variable, trim(value), 0);
}

static void read_set(const char *name)
{
    FILE *file = open_set(name);
    char line[1024];

    if (file == NULL) {
        opal_output(
            0, "hook/symvirt: the parameter set '%s' cannot be read: its parameters are not set",
            name);
        return;
    }
    while (fgets(line, sizeof(line), file) != NULL)
        set_parameter(line);
    fclose(file);
}

void hook_parameters_read(void)
{
    const char *wanted = getenv("OMPI_MCA_mca_base_param_file_prefix");
    char *names = wanted != NULL ? strdup(wanted) : NULL, *rest = NULL;

    if (names == NULL)
        return;
    for (char *name = strtok_r(names, ",:", &rest); name != NULL;
         name = strtok_r(NULL, ",:", &rest))
        if (is_ours(name))
            read_set(name);
    free(names);
}

#else

void hook_parameters_read(void)
{
}

#endif
