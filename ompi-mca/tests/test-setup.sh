#!/bin/bash
# Set-ups that cannot work are answered with one clear message; `ompi_info` explains every parameter.
# SPDX-License-Identifier: BSD-3-Clause
set -u
. "${srcdir:-.}/tests/build-tree.sh"
ompi_use_build_tree "$PWD/.."
ompi_load_sanitizers "$PWD/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_btl_ninja_control_dir=$work/ranks OMPI_MCA_btl_ninja_agent=none
failed=0

# Runs a two-rank job that sends a message, with the options given; its output is in $work/log.
job() {
    timeout 60 mpirun --oversubscribe -n 2 "$@" "$work/hello" >"$work/log" 2>&1 </dev/null
}

# The output has a line that matches $2; $1 names the check.
says() {
    if grep -qE "$2" "$work/log"; then
        echo "ok: $1"
    else
        echo "FAILED: $1: no line matches: $2"
        head -n 40 "$work/log"
        failed=1
    fi
}

cat >"$work/hello.c" <<'END'
#include <mpi.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    int rank, value = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank == 0) {
        value = 42;
        MPI_Send(&value, 1, MPI_INT, 1, 0, MPI_COMM_WORLD);
    } else {
        MPI_Recv(&value, 1, MPI_INT, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        printf("received %d\n", value);
    }
    MPI_Finalize();
    return 0;
}
END
"${MPICC:-mpicc}" -o "$work/hello" "$work/hello.c" || exit 99

job --mca pml ob1 --mca btl ninja,self
says "a job without fabrics runs on the lifeline" "^received 42"

job --mca pml ob1 --mca btl ninja,self --mca btl_ninja_lifeline nosuch0
says "a lifeline that does not exist is named" "no interface that is up matches 'nosuch0'"

job --mca pml ob1 --mca btl ninja,self --mca btl_ninja_fabrics "ib:verbs"
says "fabrics that cannot be read are explained" "NAME=TRANSPORT@DEVICE"

job --mca pml ob1 --mca btl ninja,self --mca btl_ninja_fabrics "ib=verbs@nosuch7"
says "a missing HCA is named" "ib .*nosuch7"
says "and the job runs all the same" "^received 42"

job --mca pml ob1 --mca btl ninja,self --mca btl_ninja_fault "melt=1"
says "faults that cannot be read are explained" "KEY=NUMBER"

job --mca pml ucx --mca btl ninja,self --mca pml_ucx_tls any --mca pml_ucx_devices any --mca osc ^ucx
says "another pml that carries the messages is named" "pml/ucx carries the messages.*--am ninja"

# What the parameter set of --am says holds, whatever the system's own file says; the command line goes before both.
cat >"$work/values.c" <<'END'
#include <mpi.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
    int provided, count;
    MPI_Init(&argc, &argv);
    MPI_T_init_thread(MPI_THREAD_SINGLE, &provided);
    MPI_T_cvar_get_num(&count);
    for (int i = 0; i < count; i++) {
        char name[256], text[8192] = "";
        int length = sizeof name, verbosity, binding, scope, elements;
        MPI_Datatype type;
        MPI_T_enum set;
        MPI_T_cvar_handle handle;
        if (MPI_T_cvar_get_info(i, name, &length, &verbosity, &type, &set, NULL, NULL, &binding, &scope) != MPI_SUCCESS)
            continue;
        if (strcmp(name, "pml") != 0 && strcmp(name, "btl") != 0 && strcmp(name, "osc") != 0)
            continue;
        MPI_T_cvar_handle_alloc(i, NULL, &handle, &elements);
        if (elements <= (int)sizeof text)
            MPI_T_cvar_read(handle, text);
        printf("%s is %s\n", name, text);
    }
    MPI_T_finalize();
    MPI_Finalize();
    return 0;
}
END
"${MPICC:-mpicc}" -o "$work/values" "$work/values.c" || exit 99
# Runs it on one rank with the options given; its output is in $work/log.
values() {
    timeout 60 mpirun --oversubscribe -n 1 "$@" "$work/values" >"$work/log" 2>&1 </dev/null
}
values --am "$PWD/components/ninja"
says "--am selects btl/ninja" "^btl is ninja,vader,self$"
says "and pml/ob1" "^pml is ob1$"
says "and one-sided operations over it" "^osc is \^ucx$"
values --am "$PWD/components/ninja" --mca btl ninja,self
says "what is on the command line holds" "^btl is ninja,self$"
says "and the rest of the set" "^osc is \^ucx$"

# The version that Open MPI says of itself is replaced by one of the other series.
case $(ompi_info --version) in
*v4.1.*) ours=4.1 other=5.0.7 ;;
*) ours=5.0 other=4.1.4 ;;
esac
echo "const char opal_version_string[] = \"$other\";" >"$work/version.c"
"${CC:-gcc}" -shared -fPIC -o "$work/version.so" "$work/version.c" || exit 99
job --mca pml ob1 --mca btl ninja,self,tcp -x LD_PRELOAD="${LD_PRELOAD:+$LD_PRELOAD:}$work/version.so"
says "the wrong series of Open MPI is named" "built for Open MPI ${ours/./\\.} but is loaded into Open MPI ${other//./\\.}"

ompi_info --param btl ninja --level 9 --parsable >"$work/log" 2>&1
for parameter in lifeline fabrics control_dir agent fault congestion drain_limit release_limit open_limit retry refused_limit \
    retain_low retain_high inbox_limit registration_limit verbose; do
    says "parameter $parameter has a help text" "param:btl_ninja_$parameter:help:..........*"
done
exit $failed
