#!/bin/bash
# Tests a program that is not ours: hpcc (Debian's) checks the results of HPL, PTRANS, RandomAccess and FFT on 4 ranks.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/mpi/common.sh"
command -v hpcc >/dev/null || netns_skip "hpcc is missing"
netns_up
NETNS_TEST_LIMIT=900 NETNS_LIMIT=280

# Writes the input: HPL of order $1 and three of PTRANS on a 2 x 2 grid.
hpcc_input() {
    cat >"$netns_dir/hpccinf.txt" <<END
HPLinpack benchmark input file
Ninja Migration
HPL.out      output file name (if any)
8            device out (6=stdout,7=stderr,file)
1            # of problems sizes (N)
$1           Ns
1            # of NBs
80           NBs
0            PMAP process mapping (0=Row-,1=Column-major)
1            # of process grids (P x Q)
2            Ps
2            Qs
16.0         threshold
1            # of panel fact
2            PFACTs (0=left, 1=Crout, 2=Right)
1            # of recursive stopping criterium
4            NBMINs (>= 1)
1            # of panels in recursion
2            NDIVs
1            # of recursive panel fact.
1            RFACTs (0=left, 1=Crout, 2=Right)
1            # of broadcast
1            BCASTs (0=1rg,1=1rM,2=2rg,3=2rM,4=Lng,5=LnM)
1            # of lookahead depth
1            DEPTHs (>=0)
2            SWAP (0=bin-exch,1=long,2=mix)
64           swapping threshold
0            L1 in (0=transposed,1=no-transposed) form
0            U  in (0=transposed,1=no-transposed) form
1            Equilibration (0=no,1=yes)
8            memory alignment in double (> 0)
##### This line (no. 32) is ignored (it serves as a separator). ######
0            Number of additional problem sizes for PTRANS
1200         values of N
0            number of additional blocking sizes for PTRANS
40           values of NB
END
}

for variant in $MPI_VARIANTS; do
    hpcc_input "${NINJA_HPCC_ORDER:-1000}"
    rm -f "$netns_dir/hpccoutf.txt"
    mpi_variant "$variant"
    NETNS_MCA=() # a sanitizer build needs its runtime for ninja only
    [ "$variant" = tcp ] || netns_foreign_program
    start=$SECONDS
    netns_mpirun_start 4 sh -c 'cd "$1" && exec hpcc' sh "$netns_dir"
    [ "$variant" != switched ] || mpi_storm 4
    mpi_wait "$variant"
    out=$netns_dir/hpccoutf.txt
    grep -E 'PASSED|FAILED|Success=|Failures=|CommWorldProcs=|FFT.*maximum.*error|Found .* errors' "$out" |
        sed "s/^/$variant: /" | head -n 20
    grep -qx 'Success=1' "$out" || netns_fail "$variant: hpcc does not say that it succeeded"
    ! grep -q 'FAILED' "$out" || netns_fail "$variant: a result of hpcc is wrong"
    grep -q '\.\.\. PASSED\|PASSED$' "$out" || netns_fail "$variant: HPL has checked nothing"
    echo "$variant: $((SECONDS - start)) s"
    [ "$variant" != switched ] || mpi_storm_check
done
exit 0
