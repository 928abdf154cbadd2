#!/bin/bash
# The backports source is derived from whatever Debian source the machine has, in both of apt's formats.
# SPDX-License-Identifier: BSD-3-Clause
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")

# derive WHAT WANTED: what install-packages would write for the apt directory $dir.
derive() {
    local seen
    seen=$(NINJA_APT_DIR=$dir "$top/lab/install-packages" --print-backports)
    [[ $seen == "$2" ]] || { printf 'FAIL: %s: got\n%s\nwanted\n%s\n' "$1" "$seen" "$2"; exit 1; }
    echo "ok: $1"
}

mkdir "$dir/sources.list.d"
cat >"$dir/sources.list.d/debian.sources" <<END
# security comes first here
Types: deb
URIs: http://mirror.invalid/debian-security
Suites: $codename-security
Components: main

Types: deb
# http://snapshot.invalid/
URIs: http://mirror.invalid/debian
Suites: $codename $codename-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
derive "deb822" "Types: deb
URIs: http://mirror.invalid/debian
Suites: $codename-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg"

rm "$dir/sources.list.d/debian.sources"
cat >"$dir/sources.list" <<END
deb http://mirror.invalid/debian-security $codename-security main
deb-src http://mirror.invalid/src $codename main
deb [arch=amd64 signed-by=/usr/share/keyrings/d.gpg] http://mirror.invalid/debian $codename main
END
derive "one-line" "Types: deb
URIs: http://mirror.invalid/debian
Suites: $codename-backports
Components: main
Signed-By: /usr/share/keyrings/d.gpg"
