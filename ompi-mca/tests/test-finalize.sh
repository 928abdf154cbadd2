#!/bin/bash
# A rank that waits in MPI_Finalize for the others still gives up its fabrics: its VM may have to move before they end.
# SPDX-License-Identifier: BSD-3-Clause
set -u
. "${srcdir:-.}/tests/build-tree.sh"
ompi_use_build_tree "$PWD/.."
ompi_load_sanitizers "$PWD/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=ninja,self OMPI_MCA_osc=^ucx
export OMPI_MCA_btl_ninja_control_dir=$work/ranks OMPI_MCA_btl_ninja_agent=none
export OMPI_MCA_btl_ninja_lifeline=lo OMPI_MCA_btl_ninja_fabrics=fast=tcp@lo

cat >"$work/early.c" <<'END'
#include <mpi.h>
#include <unistd.h>
/* Rank 0 ends at once; rank 1 looks at its messages when a file appears. */
int main(int argc, char **argv)
{
    int rank, value = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0)
        MPI_Send(&value, 1, MPI_INT, 1, 0, MPI_COMM_WORLD);
    for (int tries = 0; rank == 1 && tries < 200 && access(argv[1], F_OK) != 0; tries++)
        usleep(100000);
    if (rank == 1)
        MPI_Recv(&value, 1, MPI_INT, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Finalize();
    return 0;
}
END
"${MPICC:-mpicc}" -o "$work/early" "$work/early.c" || exit 99

timeout 60 mpirun --oversubscribe -n 2 "$work/early" "$work/go" >"$work/log" 2>&1 </dev/null &
job=$!
for ((tries = 0; tries < 100; tries++)); do
    [ "$(../symvirt/ninja-rankctl --dir "$work/ranks" status 2>/dev/null | grep -c rank)" -ge 2 ] && break
    sleep 0.1
done
sleep 1
../symvirt/ninja-rankctl --dir "$work/ranks" --rank 0 release fast >"$work/release" 2>&1
released=$?
touch "$work/go"
wait "$job"
ended=$?
if [ "$released" -ne 0 ] || ! grep -q "released" "$work/release"; then
    echo "FAILED: rank 0, in MPI_Finalize, does not give up its fabric:"
    cat "$work/release" "$work/log"
    exit 1
fi
if [ "$ended" -ne 0 ]; then
    echo "FAILED: the job ended with $ended:"
    cat "$work/log"
    exit 1
fi
echo "ok: released in MPI_Finalize"
