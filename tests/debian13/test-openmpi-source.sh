#!/bin/bash
# Where Open MPI's internal headers are not installed, --with-openmpi-source=DIR builds from its sources.
# SPDX-License-Identifier: BSD-3-Clause
set -eu
headers=$(mpicc --showme:incdirs | tr ' ' '\n' | grep '/openmpi$')
work=$(mktemp -d)
trap 'rm -rf "$work"; umount "$headers" 2>/dev/null || :' EXIT
tar -xf "$(echo /usr/src/openmpi_*.orig.tar.*)" -C "$work"
sources=$(echo "$work"/*/VERSION)
sources=${sources%/VERSION}
# What `configure` of Open MPI would write there: Debian has run it already.
cp "$headers"/opal_config.h "$sources/opal/include/"
mount -t tmpfs tmpfs "$headers"

mkdir "$work/build"
cd "$work/build"
if "$srcdir/configure" >log 2>&1; then
    echo "configure does not miss the internal headers"
    exit 1
fi
grep -- '--with-openmpi-source=DIR' log
if "$srcdir/configure" --with-openmpi-source="$srcdir" >log 2>&1; then
    echo "configure takes any directory for the sources of Open MPI"
    exit 1
fi
grep 'is not a source tree of Open MPI' log
sed -i.bak 's/^release=.*/release=99/' "$sources/VERSION"
if "$srcdir/configure" --with-openmpi-source="$sources" >log 2>&1; then
    echo "configure takes the sources of another version"
    exit 1
fi
grep 'the sources are of Open MPI .*99' log
mv "$sources/VERSION.bak" "$sources/VERSION"

"$srcdir/configure" --enable-developer --with-openmpi-source="$sources" >log 2>&1 || { tail log; exit 1; }
make -C symvirt >make.log 2>&1 && make -C ompi-mca >>make.log 2>&1 || { tail -n 30 make.log; exit 1; }
# The headers that Debian leaves out are there now, so ours are not used.
! grep -q 'common/ompi5' ompi-mca/Makefile || { echo "our own headers are used"; exit 1; }
cd ompi-mca
umount "$headers"
make check TESTS="tests/test-setup.sh" >check.log 2>&1 || { tail -n 40 check.log; exit 1; }
echo "ok: built from the sources in $sources, and used"
