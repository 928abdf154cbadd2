# Namespaces of the lab: each is held by one recorded process (host-init) and ends with it.
# SPDX-License-Identifier: BSD-3-Clause

# Cells: one for each host, "net" for cables, switches and the WAN, "observer" for what watches the guests.
lab_cells() { printf '%s\n' "${lab_hosts[@]}" net observer; }

cell_pidfile() { echo "$LAB_STATE/cells/$1.pid"; }

cell_pid() { process_recorded "$(cell_pidfile "$1")"; }

# cell_start NAME: makes the namespaces of NAME; its record exists before anything can run inside.
cell_start() {
    mkdir -p "$LAB_STATE/cells"
    "$(helper_path host-init)" "$(cell_pidfile "$1")" "$1" "$LAB_STATE/cells/$1.log" ||
        die "cannot make the namespaces of $1"
    # Ready when process 1 has its own /proc.
    wait_for 10 cell_ready "$1" || die "namespaces of $1 did not come up: $(tail -n 1 "$LAB_STATE/cells/$1.log")"
}

cell_ready() { [[ $(cell_run "$1" hostname 2>/dev/null) == "$1" ]]; }

# cell_run NAME COMMAND...: runs COMMAND inside, with the caller's files. With lab_exec=exec the command takes this
# process's place, so that a signal to it ends the command.
cell_run() {
    local pid
    pid=$(cell_pid "$1") || die "$1 is not running; start the lab with 'lab up'"
    shift
    ${lab_exec-} "$(helper_path cell-enter)" "$pid" "$@"
}

# cell_spawn NAME LOG COMMAND...: starts a daemon inside; it ends with the cell.
cell_spawn() {
    local name=$1 log=$2
    shift 2
    cell_run "$name" setsid -f bash -c 'log=$1; shift; exec "$@" >>"$log" 2>&1 </dev/null' spawn "$log" "$@"
}

cells_end() {
    local name
    # Guests first: a host's processes all go with its process 1.
    for name in $(lab_cells); do
        process_end "$(cell_pidfile "$name")"
    done
}

# cable NAME_A DEVICE_A NAME_B DEVICE_B MTU: a veth pair between two cells. Offloads are off: frames are read by
# packet sockets, which would see unfinished checksums and joined segments.
cable() {
    local a b end
    a=$(cell_pid "$1") && b=$(cell_pid "$3") || die "cannot lay a cable from $1 to $3"
    ip link add "$2" mtu "$5" netns "$a" type veth peer name "$4" mtu "$5" netns "$b"
    for end in "$a $2" "$b $4"; do
        set -- $end
        nsenter -t "$1" -n sh -c "ethtool -K $2 tx off rx off sg off tso off gso off gro off >/dev/null 2>&1
            ip link set $2 up"
    done
}
