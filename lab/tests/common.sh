# Shared by the lab's tests: a lab of their own, ended whatever happens, and checks that say what they saw.
# SPDX-License-Identifier: BSD-3-Clause
set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lab=$top/lab/lab

skip() {
    echo "SKIP: $*"
    exit 77
}

((EUID == 0)) || skip "the lab needs root"
"$top/lab/install-packages" --check >/dev/null 2>&1 || skip "packages missing; run lab/install-packages"

NINJA_LAB_STATE=$(mktemp -d /run/nl-XXXXXX)
export NINJA_LAB_STATE

test_end() {
    local status=$? pid
    trap - EXIT
    # What runs in the background is of no use without the lab, and may wait for it for minutes.
    for pid in $(jobs -p); do
        pkill -TERM -P "$pid"
        kill -TERM "$pid"
    done 2>/dev/null
    if ((status != 0)); then
        tail -n 5 "$NINJA_LAB_STATE"/hosts/*/setup.log "$NINJA_LAB_STATE"/hosts/*/log/*.log \
            "$NINJA_LAB_STATE"/ssh.log 2>/dev/null
    fi
    timeout 90 "$lab" down || status=1
    exit "$status"
}
trap test_end EXIT
trap 'exit 143' TERM INT HUP

fail() {
    echo "FAIL: $*"
    exit 1
}

# check WHAT COMMAND...: COMMAND must succeed.
check() {
    local what=$1
    shift
    "$@" || fail "$what ($*)"
    echo "ok: $what"
}

# check_equal WHAT SEEN WANTED
check_equal() {
    [[ $2 == "$3" ]] || fail "$1: is '$2', should be '$3'"
    echo "ok: $1: $2"
}

# check_between WHAT SEEN LOW HIGH: numbers, fractions allowed.
check_between() {
    awk -v x="$2" -v low="$3" -v high="$4" 'BEGIN { exit !(x + 0 == x && x >= low && x <= high) }' </dev/null ||
        fail "$1: is '$2', should be from $3 to $4"
    echo "ok: $1: $2"
}

# lab_up ARG...
lab_up() {
    timeout 400 "$lab" up "$@" || fail "lab up $*"
}

# until_true SECONDS COMMAND...
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.2
    done
}
