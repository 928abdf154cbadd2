#!/bin/bash
# Tests a program that is not ours: the test suite of mpi4py (Debian's python3-mpi4py) on 2 ranks.
# SPDX-License-Identifier: BSD-3-Clause
#
# The suite is not in Debian's binary package: it comes from the source package of the same version, or from
# NINJA_MPI4PY_SUITE, the "test" directory of that version. What fails over btl/tcp as well is not counted.
. "${srcdir:-.}/mpi/common.sh"
/usr/bin/python3 -c 'import mpi4py' 2>/dev/null || netns_skip "python3-mpi4py is missing"
NETNS_TEST_LIMIT=1500 NETNS_LIMIT=280 NETNS_SLOTS=16
netns_up

# Fetches the source package into $netns_dir by apt, with lists of its own: this machine's stay as they are.
suite_fetch() {
    local apt=$netns_dir/apt options sources
    . "$srcdir/../build-aux/apt-sources.sh"
    mkdir -p "$apt/lists/partial" "$apt/parts"
    sources=$(apt_sources_print "$(. /etc/os-release && echo "$VERSION_CODENAME")") || return 1
    grep '^deb ' <<<"$sources" | sed 's/^deb /deb-src /' >"$apt/parts/source.list"
    grep -v '^deb ' <<<"$sources" | sed 's/^Types:.*/Types: deb-src/' >"$apt/parts/source.sources"
    options=(-q -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$apt/parts"
        -o "Dir::State::Lists=$apt/lists" -o APT::Sandbox::User=root)
    (cd "$netns_dir" && timeout 120 apt-get "${options[@]}" update &&
        timeout 120 apt-get "${options[@]}" source --download-only mpi4py &&
        mkdir suite && tar -xf mpi4py_*.orig.tar.* --strip-components=1 -C suite) >"$netns_dir/apt.txt" 2>&1
}

suite=${NINJA_MPI4PY_SUITE:-}
if [ -z "$suite" ]; then
    suite_fetch || netns_skip "mpi4py's source package cannot be had: $(grep '^E:' "$netns_dir/apt.txt" | head -n 1)"
    suite=$netns_dir/suite/test
fi
[ -e "$suite/runtests.py" ] || netns_skip "there is no runtests.py in $suite"

# A rank must find its own name, which is that of the host; the file is seen in this host only.
printf '127.0.0.1 localhost\n10.77.1.1 %s-a\n10.77.1.2 %s-b\n' "$netns_prefix" "$netns_prefix" >"$netns_dir/hosts"
# shellcheck disable=SC2016
rank='mountpoint -q /etc/hosts || mount --bind "$0/hosts" /etc/hosts
    exec /usr/bin/python3 "$@" >"$0/rank-$OMPI_COMM_WORLD_RANK.log" 2>&1'

# Runs the suite as variant $1 with further arguments of runtests.py; what failed goes to $netns_dir/$1.failed.
suite_run() {
    local variant=$1 ran
    shift
    mpi_variant "$variant"
    rm -f "$netns_dir"/rank-*.log
    # Debian's configuration takes osc/pt2pt away, without which nothing serves windows across hosts on ob1.
    NETNS_MCA=(--mca osc ^ucx)
    [ "$variant" = tcp ] || netns_foreign_program
    netns_mpirun_start 2 sh -c "$rank" "$netns_dir" "$suite/runtests.py" --no-builddir -v "$@"
    if [ "$variant" = switched ]; then
        mpi_storm_changing
        MPI_CHANGING=yes mpi_storm_check
    fi
    netns_mpirun_wait
    [ $? -ne 124 ] || netns_fail "$variant: the suite did not end"
    grep -ahE '^(ERROR|FAIL): ' "$netns_dir"/rank-*.log | sort -u >"$netns_dir/$variant.failed"
    ran=$(grep -ahoE '^Ran [0-9]+ tests' "$netns_dir"/rank-*.log | uniq -c | tr -s ' ')
    echo "$variant $*: ranks and tests:$ran; $(wc -l <"$netns_dir/$variant.failed") failed"
    [[ $ran = " 2 Ran "* ]] || netns_fail "$variant: a rank did not finish the suite"
}

# The whole suite at MPI_THREAD_MULTIPLE, as mpi4py does by itself; then windows, which osc/pt2pt serves below it only.
for arguments in "" "--thread-level serialized -i test_rma -i test_win"; do
    for variant in tcp ninja switched; do
        # shellcheck disable=SC2086
        suite_run "$variant" $arguments
        comm -13 "$netns_dir/tcp.failed" "$netns_dir/$variant.failed" >"$netns_dir/more.log"
        [ ! -s "$netns_dir/more.log" ] || netns_fail "$variant: tests fail that pass over btl/tcp"
    done
done
exit 0
