# Two "hosts" as network namespaces with two fabrics between them, and MPI jobs across them.
# SPDX-License-Identifier: BSD-3-Clause
#
# Usage in a test:
#   . "$srcdir/lib/netns.sh"
#   netns_up                     # hosts a and b; removed when the test ends, however it ends
#   netns_mpirun 2 PROGRAM ...   # rank 0 on host a, rank 1 on host b, and so on by turns
#
# On each host: eth0 (10.77.1.0/24) is the lifeline, fast0 (10.77.2.0/24) the fast fabric, mgmt0
# (10.77.3.0/24) carries heartbeats only; host a has address .1 and host b .2. With `netns_up switch`
# each fabric runs through a bridge in a third namespace, where it can be cut.
#
# NINJA_TEST_TRANSPORT says what the job runs on: ninja (default), or the stock transports
# tcp (on the lifeline) and tcp-fast (on the fast fabric): a test that is about switching must fail
# with those.

: "${srcdir:=.}" "${builddir:=.}"
NINJA_TEST_TRANSPORT=${NINJA_TEST_TRANSPORT:-ninja}
netns_prefix=nj$$
netns_top=$(cd "$builddir/.." && pwd)
netns_programs=$netns_top/benchmarks
netns_dir=''     # temporary files of this test
netns_pids=()    # background processes of this test
netns_control='' # directory of the ranks' control sockets

# Prints why the test cannot run here, and skips it.
netns_skip() {
    echo "SKIP: $*"
    exit 77
}

# Prints what went wrong with the end of the logs, and fails the test.
netns_fail() {
    local log
    echo "FAIL: $*"
    for log in "$netns_dir"/*.log; do
        [ -s "$log" ] || continue
        echo "--- ${log##*/}"
        tail -n 60 "$log"
    done
    exit 1
}

# Runs a command on host a or b, under a hostname of its own.
netns_on() {
    local host=$1
    shift
    ip netns exec "$netns_prefix-$host" unshare --uts sh -c 'hostname "$0" && exec "$@"' \
        "$netns_prefix-$host" "$@"
}

# Ends everything that runs in the namespaces of this test, and removes them.
netns_down() {
    local host pid
    set +e
    for pid in "${netns_pids[@]}"; do
        kill -TERM "$pid" 2>/dev/null
    done
    for host in a b s; do
        [ -e "/run/netns/$netns_prefix-$host" ] || continue
        # Stopped processes get the signal once they go on.
        for pid in $(ip netns pids "$netns_prefix-$host" 2>/dev/null); do
            kill -TERM "$pid" && kill -CONT "$pid"
        done 2>/dev/null
    done
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -n "$(netns_left)" ] || break
        sleep 0.1
    done
    for pid in $(netns_left); do
        kill -KILL "$pid" 2>/dev/null
    done
    for host in a b s; do
        [ ! -e "/run/netns/$netns_prefix-$host" ] || ip netns del "$netns_prefix-$host"
    done
    wait 2>/dev/null
    [ -z "$netns_dir" ] || rm -rf "$netns_dir"
}

# Removes what a test left that was killed so hard that it could not do so itself.
netns_sweep() {
    local path name pid
    for path in /run/netns/nj[0-9]*-[abs]; do
        [ -e "$path" ] || continue
        name=${path##*/} pid=${path##*/nj} pid=${pid%-*}
        [ ! -e "/proc/$pid" ] || continue
        # Whoever still runs in there was started by that test.
        for pid in $(ip netns pids "$name" 2>/dev/null); do
            kill -KILL "$pid" 2>/dev/null
        done
        ip netns del "$name" 2>/dev/null
    done
    for path in /tmp/ninja-test.[0-9]*.*; do
        pid=${path#/tmp/ninja-test.} pid=${pid%%.*}
        [ ! -d "$path" ] || [ -e "/proc/$pid" ] || rm -rf "$path"
    done
}

# Ends the test if it takes longer than NETNS_TEST_LIMIT seconds (default 240).
netns_watchdog() {
    (
        trap 'kill "$sleeper"; exit' TERM
        sleep "${NETNS_TEST_LIMIT:-240}" &
        sleeper=$!
        wait "$sleeper"
        [ -e "/run/netns/$netns_prefix-a" ] || exit # the test is gone, whoever has its number now
        echo "FAIL: the test did not end in time"
        kill -TERM $$
    ) &
    netns_pids+=($!)
}

# Prints the processes that are left in the namespaces of this test.
netns_left() {
    local host
    for host in a b s; do
        [ ! -e "/run/netns/$netns_prefix-$host" ] || ip netns pids "$netns_prefix-$host"
    done 2>/dev/null
}

# Connects interface $1 of both hosts; $2 is the third part of the addresses, $3 "switch" or "".
netns_cable() {
    local name=$1 net=$2 a=$netns_prefix-a b=$netns_prefix-b s=$netns_prefix-s host ns
    if [ "$3" = switch ]; then
        ip -n "$s" link add "br-$name" type bridge forward_delay 0
        ip -n "$s" link set "br-$name" up
        for host in a b; do
            ip link add "$name" netns "$netns_prefix-$host" type veth peer name "$name-$host" netns "$s"
            ip -n "$s" link set "$name-$host" master "br-$name" up
        done
    else
        ip link add "$name" netns "$a" type veth peer name "$name" netns "$b"
    fi || return 1
    for host in a b; do
        ns=$netns_prefix-$host
        # Addresses are known beforehand: no packet need wait for a neighbour to be found.
        ip -n "$ns" addr add "10.77.$net.$([ $host = a ] && echo 1 || echo 2)/24" dev "$name" &&
            ip -n "$ns" link set "$name" up || return 1
    done
}

# True once all interfaces are running.
netns_carrier() {
    local host
    for host in a b; do
        [ "$(ip -n "$netns_prefix-$host" -o link show up | grep -c 'state UP')" = 3 ] || return 1
    done
}

# Makes the hosts; $1 "switch": fabrics run through bridges.
netns_up() {
    local mode=${1:-} host
    [ "$(id -u)" = 0 ] || netns_skip "network namespaces need root"
    for host in ip unshare mpirun jq; do
        command -v "$host" >/dev/null || netns_skip "the command $host is missing"
    done
    netns_dir=$(mktemp -d "/tmp/ninja-test.$$.XXXXXX") || exit 99
    trap netns_down EXIT
    trap 'exit 1' INT TERM HUP
    netns_watchdog
    netns_sweep
    ip netns add "$netns_prefix-a" 2>"$netns_dir/ip.log" ||
        netns_skip "no network namespaces here: $(cat "$netns_dir/ip.log")"
    ip netns add "$netns_prefix-b"
    [ -z "$mode" ] || ip netns add "$netns_prefix-s"
    for host in a b; do
        ip -n "$netns_prefix-$host" link set lo up
    done
    { netns_cable eth0 1 "$mode" && netns_cable fast0 2 "$mode" && netns_cable mgmt0 3 ''; } ||
        netns_fail "the fabrics could not be made"
    # The kernel takes up to a second to see the carrier; until then UCX finds no interface.
    netns_until 5 netns_carrier || netns_fail "the fabrics do not come up"
    netns_control=$netns_dir/control
    mkdir -m 700 "$netns_control" "$netns_dir/session-a" "$netns_dir/session-b"
    netns_agent_write
}

# Writes the program with which mpirun starts its daemon on the other host, in place of ssh.
netns_agent_write() {
    cat >"$netns_dir/agent" <<END
#!/bin/sh
# mpirun calls this as: agent HOST COMMAND...
case \$1 in
10.77.1.1 | $netns_prefix-a) host=$netns_prefix-a ;;
10.77.1.2 | $netns_prefix-b) host=$netns_prefix-b ;;
*) echo "agent: unknown host \$1" >&2; exit 1 ;;
esac
shift
cd "$netns_dir" || exit 1
exec ip netns exec "\$host" unshare --uts sh -c 'hostname "\$0" && exec sh -c "\$1"' "\$host" "\$*"
END
    chmod 700 "$netns_dir/agent"
}

# Sets netns_mca to the options of mpirun for the transport under test.
netns_transport() {
    case $NINJA_TEST_TRANSPORT in
    ninja)
        netns_mca=(--mca pml ob1 --mca btl "ninja,${NETNS_SHARED_MEMORY-vader,}self"
            --mca btl_ninja_fabrics "${NETNS_FABRICS-fast=tcp@fast0}" --mca btl_ninja_lifeline eth0
            --mca btl_ninja_control_dir "$netns_control")
        if [ -d "$netns_top/ompi-mca/components" ]; then
            . "$srcdir/../ompi-mca/tests/build-tree.sh"
            ompi_use_build_tree "$netns_top"
        fi
        ;;
    tcp) netns_mca=(--mca pml ob1 --mca btl "tcp,${NETNS_SHARED_MEMORY-vader,}self" --mca btl_tcp_if_include eth0) ;;
    tcp-fast) netns_mca=(--mca pml ob1 --mca btl "tcp,${NETNS_SHARED_MEMORY-vader,}self" --mca btl_tcp_if_include fast0) ;;
    ucx)
        netns_mca=(--mca pml ucx --mca osc ^ucx -x "UCX_TLS=${NETNS_UCX_TLS:-tcp,self}"
            -x "UCX_NET_DEVICES=${NETNS_UCX_DEVICE:-eth0}" --mca pml_ucx_tls any --mca pml_ucx_devices any)
        ;;
    *) netns_fail "NINJA_TEST_TRANSPORT=$NINJA_TEST_TRANSPORT: unknown" ;;
    esac
}

# Sets netns_launch to the options of mpirun that say how it starts $1 ranks on each host; in series 5.0
# of Open MPI they are PRRTE's and PMIx's.
netns_launcher() {
    local a=$netns_prefix-a b=$netns_prefix-b network=${NETNS_OOB:-eth0}
    case $(ompi_info --version) in
    *v4.*)
        netns_launch=(--host "10.77.1.1:$1,10.77.1.2:$1" --mca plm rsh --mca plm_rsh_agent "$netns_dir/agent"
            --mca oob_tcp_if_include "$network" --mca orte_tmpdir_base "${NETNS_SESSION:-$netns_dir}")
        ;;
    *)
        netns_launch=(--host "$a:$1,$b:$1" --prtemca plm ssh --prtemca plm_ssh_agent "$netns_dir/agent"
            --prtemca prte_if_include "$network" --pmixmca ptl_base_if_include "$network"
            --prtemca prte_tmpdir_base "${NETNS_SESSION:-$netns_dir}")
        ;;
    esac
}

# Runs PROGRAM with $1 ranks, on the two hosts by turns. NETNS_LIMIT (seconds, default 60) is the
# hard time limit; NETNS_SLOTS the slots of each host, for jobs that start more processes (default: as
# many as it gets ranks); NETNS_SHARED_MEMORY= keeps ranks of one host from using it; NETNS_MCA an array of further options;
# NETNS_SESSION a directory of their own for jobs that start at the same time.
netns_mpirun() {
    local ranks=$1 slots netns_launch=() netns_mca=()
    shift
    slots=${NETNS_SLOTS:-$(((ranks + 1) / 2))}
    netns_launcher "$slots"
    netns_transport
    (
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
        # In a sanitizer build: Open MPI itself does not free everything at the end.
        export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-} ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0}
        cd "$netns_dir" || exit 1
        exec timeout --kill-after=5 "${NETNS_LIMIT:-60}" ip netns exec "$netns_prefix-a" \
            unshare --uts sh -c 'hostname "$0" && exec "$@"' "$netns_prefix-a" \
            mpirun -np "$ranks" "${netns_launch[@]}" --map-by node --bind-to none \
            --mca mpi_yield_when_idle "${NETNS_YIELD:-1}" -x LD_LIBRARY_PATH -x ASAN_OPTIONS \
            "${netns_mca[@]}" "${NETNS_MCA[@]}" "$@" </dev/null
    )
}

# Adds to NETNS_MCA what a program that was not built with the sanitizers needs to load our components
# if these were.
netns_foreign_program() {
    local runtime
    runtime=$(ldd "$netns_top/ompi-mca/components/mca_btl_ninja.so" 2>/dev/null | awk '/libasan/ { print $3 }')
    [ -z "$runtime" ] || NETNS_MCA+=(-x "LD_PRELOAD=$runtime")
}

# Starts netns_mpirun in the background with its output in $netns_dir/job.log; netns_job is its pid.
netns_mpirun_start() {
    netns_mpirun "$@" >"$netns_dir/job.log" 2>&1 &
    netns_job=$!
    netns_pids+=("$netns_job")
}

# Lets ninja-soak end its run in good order, if it was started with --duration 0.
netns_soak_stop() {
    local pid
    for pid in $(netns_rank_pids ninja-soak a); do
        kill -USR1 "$pid"
    done
}

# Waits for the job in the background; returns its exit code.
netns_mpirun_wait() {
    local status
    wait "$netns_job"
    status=$?
    [ $status -ne 124 ] || echo "the job hit its time limit"
    return $status
}

# Starts ninja-observer on host a; ranks reach it at $netns_observer.
netns_observer_start() {
    netns_observer=10.77.3.1:7510
    ip netns exec "$netns_prefix-a" "$netns_programs/ninja-observer" --listen "$netns_observer" \
        --json "$netns_dir/observer.json" --csv "$netns_dir/beats.csv" 2>"$netns_dir/observer.log" &
    netns_observer_pid=$!
    netns_pids+=("$netns_observer_pid")
    netns_until 5 netns_observe --report >/dev/null || netns_fail "the observer did not start"
}

# Sends a request to the observer: --report, --mark LABEL or --unmark LABEL.
netns_observe() {
    local request=$1
    shift
    ip netns exec "$netns_prefix-a" "$netns_programs/ninja-observer" "$request" "$netns_observer" "$@"
}

# Repeats a command each 50 ms until it succeeds, at most $1 seconds.
netns_until() {
    local end=$((SECONDS + $1))
    shift
    while ! "$@" 2>/dev/null; do
        [ $SECONDS -le $end ] || return 1
        sleep 0.05
    done
}

# Prints the bytes that interface $2 of host $1 has sent.
netns_bytes() {
    ip -n "$netns_prefix-$1" -s -j link show dev "$2" | jq '.[0].stats64.tx.bytes'
}

# Cuts or heals fabric $2 at its switch: frames vanish, no end sees its carrier go.
netns_cut() {
    ip -n "$netns_prefix-s" link set "$1-b" nomaster
}
netns_heal() {
    ip -n "$netns_prefix-s" link set "$1-b" master "br-$1"
}

# Puts fabric $1 on a relay in place of the bridge, so that its frames can be delayed.
netns_relay_start() {
    local host
    for host in a b; do
        ip -n "$netns_prefix-s" link set "$1-$host" nomaster
    done
    mkfifo "$netns_dir/relay"
    ip netns exec "$netns_prefix-s" "$builddir/fabric-relay" "$1-a" "$1-b" \
        <"$netns_dir/relay" 2>"$netns_dir/relay.log" &
    netns_pids+=($!)
    exec {netns_relay}>"$netns_dir/relay"
}

# Gives the relay a command: delay MS, rate MBITS, hold.
netns_relay_command() {
    echo "$*" >&"$netns_relay"
}

# True once the observer has heard of more than $1 verified messages.
netns_verified() {
    [ "$(netns_observe --report | jq .messages_verified)" -gt "$1" ]
}

# True once all of $1 ranks listen on their control sockets.
netns_ranks_listen() {
    [ "$(find "$netns_control" -name '*.sock' | wc -l)" -ge "$1" ]
}

# Asks all ranks of the job: release fast, resume fast, status.
netns_rankctl() {
    "$netns_top/symvirt/ninja-rankctl" --dir "$netns_control" "$@"
}

# True if the links between the hosts are on transport $1. Ranks are placed by turns, so those of one host are all even or
# all odd; their links among themselves carry nothing where shared memory does.
netns_links_are_on() {
    netns_rankctl status --json | jq -e "[.. | objects | select(has(\"links\")) | .rank as \$me | .links[] |
        select(.rank % 2 != \$me % 2) | .transport] | length >= 2 and all(.[]; . == \"$1\")" >/dev/null
}

# Prints the pids of the ranks of program $1 on host $2.
netns_rank_pids() {
    local pid
    for pid in $(ip netns pids "$netns_prefix-$2"); do
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "$1" ] || echo "$pid"
    done
}

# Checks the result of ninja-soak in file $1: nothing may be wrong, and something must have been sent.
netns_check_soak() {
    ! grep -qE 'runtime error:|AddressSanitizer' "$netns_dir"/*.log || netns_fail "a sanitizer complains"
    jq -c 'del(.program, .job, .seed, .pattern)' "$1" || netns_fail "ninja-soak left no result"
    jq -e '.result == "ok" and .lost + .duplicated + .corrupt + .reordered + .overwritten == 0 and
           .messages_verified == .messages_sent and .messages_sent > 100' "$1" >/dev/null ||
        netns_fail "ninja-soak found something wrong"
}
