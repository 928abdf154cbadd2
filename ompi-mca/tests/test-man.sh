#!/bin/bash
# The man page lists the parameters with their defaults, and the performance variables, that ompi_info knows: no more, no less.
# SPDX-License-Identifier: BSD-3-Clause
set -u
. "${srcdir:-.}/tests/build-tree.sh"
ompi_load_sanitizers "$PWD/.."
page=${srcdir:-.}/mca_btl_ninja.7
system=$(ompi_info --parsable --path pkglibdir | sed 's/^path:pkglibdir://')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LD_LIBRARY_PATH=$PWD/.libs:$PWD/../symvirt/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
unset "${!OMPI_MCA_btl_ninja@}"
failed=0

# Compares the lists known and told; $1 says of what.
compare() {
    if ! [ -s "$work/known" ]; then
        echo "FAILED: ompi_info lists no $1"
        failed=1
    elif diff -u "$work/known" "$work/told"; then
        echo "ok: $(wc -l <"$work/told") $1"
    else
        echo "FAILED: the man page (+) and ompi_info (-) differ in $1"
        failed=1
    fi
}

OMPI_MCA_mca_base_component_path=$PWD/components:$system \
    ompi_info --param btl ninja --level 9 --parsable >"$work/info" 2>/dev/null
sed -n 's/^mca:btl:ninja:param:\(btl_ninja_[a-z_]*\):value:/\1 /p' "$work/info" |
    grep -v '_accelerator_' | # of GPUs; only some builds of series 5.0 have it, and it is not ours
    awk '{ print $1, $2 == "" ? "none" : $2 }' | sort >"$work/known"
sed -n 's/^\\fB\(btl_ninja_[a-z_]*\)\\fR (.*, default \([^ ]*\))$/\1 \2/p' "$page" | sort >"$work/told"
compare parameters
sed -n 's/^mca:btl:ninja:pvar:\(btl_ninja_[a-z_]*\):class:.*/\1/p' "$work/info" | sort >"$work/known"
sed -n '/^.SH PERFORMANCE/,$ { /^\\fBbtl_ninja_/ { s/(.*//; p } }' "$page" |
    grep -o 'btl_ninja_[a-z_]*' | sort >"$work/told"
compare "performance variables"
env -u LD_PRELOAD man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>"$work/warnings" >/dev/null
if [ -s "$work/warnings" ] && command -v man >/dev/null; then
    echo "FAILED: groff complains"
    cat "$work/warnings"
    failed=1
fi
exit $failed
