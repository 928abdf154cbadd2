# What bench-move and bench-verbs share: a lab with two guests that is taken down again, whatever happens.
# The caller has set $top (source tree), $lab (its program) and $build (build tree). Sourced.
# SPDX-License-Identifier: BSD-3-Clause

program=${0##*/}
child_pid=''    # what wait_for runs
observer_pid='' # what else to end
probes=()       # jobs that run in the guests, by the pid of their ssh: to end as well

# Makes a lab of our own and $work for files, and sees to it that nothing of them is left.
guests_prepare() {
    NINJA_LAB_STATE=$(mktemp -d /run/nb-XXXXXX) || exit 1
    export NINJA_LAB_STATE
    work=$(mktemp -d) || exit 1
    trap finish EXIT
    # A second signal must not end what takes the lab down; programs that it starts still hear theirs.
    trap 'trap : TERM INT HUP; exit 143' TERM INT HUP
}

finish() {
    local status=$? i
    trap - EXIT
    # A lab that comes up must have ended before it can go down.
    if [ -n "$child_pid" ] && kill "$child_pid" 2>/dev/null; then
        for ((i = 0; i < 120; i++)); do
            kill -0 "$child_pid" 2>/dev/null || break
            sleep 0.5
        done
        kill -KILL "$child_pid" 2>/dev/null
    fi
    [ -z "$observer_pid" ] || kill "$observer_pid" 2>/dev/null
    [ ${#probes[@]} = 0 ] || kill "${!probes[@]}" 2>/dev/null
    timeout 90 "$lab" down || status=1
    rm -rf "$work"
    exit "$status"
}

# Ends the benchmark with what the programs said.
fail() {
    echo "$program: $*" >&2
    tail -n 20 "$work"/*.log >&2 2>/dev/null
    exit 1
}

# Runs a command so that a signal to this script is heard at once.
wait_for() {
    local status
    "$@" &
    child_pid=$!
    wait "$child_pid"
    status=$?
    child_pid=''
    return $status
}

# Has the guests get what another build tree ($1) installs as well, in /opt/before.
guests_payload_before() {
    local component
    wait_for make -s -C "$1" install DESTDIR="$work/payload/opt/before" >"$work/install.log" 2>&1 || fail "make install failed in $1"
    component=$(find "$work/payload/opt/before" -name mca_btl_ninja.so)
    [ -n "$component" ] || fail "$1 installs no btl/ninja"
    guests_before_components=$(dirname "${component#"$work/payload"}")
}

# Brings up node1 and node2 with what the build tree installs, and its benchmarks named as arguments.
guests_up() {
    local name
    wait_for make -s -C "$build" install DESTDIR="$work/payload" >"$work/install.log" 2>&1 || fail "make install failed"
    rm "$work/install.log"
    for name in "$@"; do
        install -D "$build/benchmarks/$name" "$work/payload/usr/local/bin/$name" || exit 1
    done
    wait_for timeout 400 "$lab" up --payload "$work/payload" || fail "the lab does not come up"
    rm -rf "$work/payload"
}
