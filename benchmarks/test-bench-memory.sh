#!/bin/bash
# Tests that bench-memory measures, and that what a link keeps for replay is bounded.
# SPDX-License-Identifier: BSD-3-Clause
set -u
[ "$(id -u)" = 0 ] || { echo "SKIP: network namespaces need root"; exit 77; }
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
if [ -n "$(ldd "${builddir:-.}/link-probe" | grep libasan)" ]; then
    echo "SKIP: the memory of a sanitizer build tells nothing"
    exit 77
fi
timeout 200 "${srcdir:-.}/bench-memory" --soak 0 --links "2 16" --build "${builddir:-.}/.." --out "$dir/out" \
    >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
cat "$dir/out/table.txt"
for links in 2 16; do
    # The default of retain_high is 16 MiB; one message more may be made before it is reached.
    awk -F, -v l=$links '$1 == "retained_bytes_per_link" && $2 == l && $3 > 15e6 && $3 < 18e6 { ok = 1 } END { exit !ok }' \
        "$dir/out/links.csv" || { echo "FAIL: retention is not what it should be with $links links"; exit 1; }
done
# Some kB; with two links a single page more in an arena of malloc counts for too much.
awk -F, '$1 == "idle_bytes_per_link" && $2 == 16 && $3 < 20000 { ok = 1 } END { exit !ok }' "$dir/out/links.csv" ||
    { echo "FAIL: an idle link takes too much memory"; exit 1; }
exit 0
