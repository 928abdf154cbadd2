# The commands of lab: each is one function, command_NAME.
# SPDX-License-Identifier: BSD-3-Clause

# The WAN of the published measurements: 7.5 ms round trip, 900 Mbit/s out, 490 Mbit/s back. The switches and the
# relay itself add about 0.9 ms to the round trip, so the relay is set to a little less.
wan_default_delay_us=3300
wan_default_out_kbit=900000
wan_default_back_kbit=490000

lab_is_up() { [[ -e $LAB_STATE/up ]] && cell_pid net >/dev/null; }

lab_need_up() { lab_is_up || die "the lab is not up; start it with 'lab up'"; }

# Makes cells, networks and hosts; guests come later.
lab_build() {
    local cell host tasks pids=() pid
    say "namespaces and networks"
    for cell in $(lab_cells); do
        cell_start "$cell"
    done
    network_make
    wan_start $wan_default_delay_us $wan_default_out_kbit $wan_default_back_kbit
    tasks=$(cpu_group_make)
    say "hosts: ${lab_hosts[*]}"
    for host in "${lab_hosts[@]}"; do
        host_start "$host" "$tasks" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || exit 1
    done
    for host in "${lab_hosts[@]}"; do
        host_devices_write "$host"
    done
}

command_up() {
    local nodes=2 payload='' guests=yes measure=
    while (($# > 0)); do
        case $1 in
        --nodes) nodes=$2; shift ;;
        --payload) payload=$2; shift ;;
        --no-guests) guests= ;;
        --measure) measure=yes ;;
        *) die "lab up: unknown option $1" ;;
        esac
        shift
    done
    [[ $nodes =~ ^[1-8]$ ]] || die "--nodes takes 1 to $lab_nodes_max"
    [[ -z $payload || -d $payload ]] || die "no payload directory $payload"
    "$LAB_DIR/install-packages"
    lock_take
    if lab_is_up; then
        say "already up"
        LAB_IMAGE=$(readlink "$LAB_STATE/image")
    else
        lab_clear
        image_ensure
        ln -sfn "$LAB_IMAGE" "$LAB_STATE/image"
        accel_name >"$LAB_STATE/accel"
        [[ -z $payload ]] || payload_set "$payload"
        lab_build
        : >"$LAB_STATE/nodes"
        : >"$LAB_STATE/up"
    fi
    if [[ -n $guests ]]; then
        lab_guests_up "$nodes" "$payload"
    fi
    if [[ -n $measure ]]; then
        wan_measure
    else
        say "WAN: RTT $(wan_rtt_measure) ms measured; 'lab status --measure' also measures the rates"
    fi
    say "lab is up in $LAB_STATE ($(cat "$LAB_STATE/accel"))"
}

# lab_guests_up N [PAYLOAD]: starts those of node1...nodeN that do not run.
lab_guests_up() {
    local vm absent=() present=()
    for vm in $(lab_node_names "$1"); do
        if guest_host "$vm" >/dev/null; then
            present+=("$vm")
        else
            absent+=("$vm")
        fi
    done
    lab_node_names "$1" >"$LAB_STATE/nodes"
    [[ -z ${2-} ]] || payload_set "$2"
    ((${#present[@]} == 0)) || guests_ready "${present[@]}"
    ((${#absent[@]} == 0)) || guests_start "${absent[@]}"
}

# Ends what a lab in this state directory left, whole or half made.
lab_clear() {
    local keep
    cells_end
    cpu_group_remove
    for keep in "$LAB_STATE"/* "$LAB_STATE"/.[!.]*; do
        [[ $keep == "$LAB_STATE/lock" ]] || rm -rf --one-file-system "$keep"
    done
}

command_down() {
    [[ -e $LAB_STATE ]] || { say "nothing to end in $LAB_STATE"; return 0; }
    lock_take 60
    lab_clear
    rm -rf --one-file-system "$LAB_STATE"
    say "lab is down"
}

command_status() {
    local host vm
    if ! lab_is_up; then
        echo "lab is down ($LAB_STATE)"
        return 1
    fi
    echo "lab is up in $LAB_STATE, accelerator $(cat "$LAB_STATE/accel")"
    for host in "${lab_hosts[@]}"; do
        echo "host $host ${host_ip[$host]} $(host_uri "$host")"
        for vm in $(host_virsh "$host" list --all --name 2>/dev/null); do
            echo "  $vm $(node_ip "$vm") $(host_virsh "$host" domstate "$vm") hca=$(guest_hca "$vm" "$host")"
        done
    done
    echo "wan $(wan_ctl status)"
    if [[ ${1-} == --measure ]]; then
        wan_measure
    elif [[ -e $LAB_STATE/wan.measured ]]; then
        cat "$LAB_STATE/wan.measured"
    fi
}

# guest_hca VM HOST: prints the MAC of the HCA in the live definition, or none.
guest_hca() {
    host_virsh "$2" dumpxml "$1" | awk -v alias="$hca_alias" -F"'" '
        /<interface/ { mac = "" }
        /<mac address/ { mac = $2 }
        /<alias name/ && $2 == alias { found = mac }
        END { print found == "" ? "none" : found }'
}

command_ssh() {
    lab_need_up
    (($# > 0)) || die "usage: lab ssh VM [COMMAND...]"
    trap - ERR
    lab_exec=exec
    guest_ssh "$@"
}

command_console() {
    local host
    lab_need_up
    host=$(guest_host "${1:?usage: lab console VM}") || die "$1 does not run"
    exec tail -n 50 -F "$(host_dir "$host")/log/qemu/$1-console.log"
}

command_exec() {
    lab_need_up
    (($# > 1)) || die "usage: lab exec HOST COMMAND..."
    trap - ERR
    lab_exec=exec
    cell_run "$@"
}

command_virsh() {
    lab_need_up
    (($# > 0)) || die "usage: lab virsh HOST ARG..."
    host_known "$1" || die "no such host: $1"
    trap - ERR
    host_virsh "$@"
}

# Without a command: ninja-observer, from the payload or from PATH, with the arguments that begin with a dash.
command_observe() {
    local dir
    lab_need_up
    if [[ ${1--} == -* ]]; then
        for dir in "$LAB_STATE"/payload-tree/usr/{local/,}bin; do
            PATH=$dir:$PATH
        done
        command -v ninja-observer >/dev/null || die "ninja-observer is neither in the payload nor in PATH"
        (($# > 0)) || set -- --listen "$observer_ip:7510"
        set -- "$(command -v ninja-observer)" "$@"
    fi
    trap - ERR
    lab_exec=exec
    cell_run observer "$@"
}

command_wan() {
    lab_need_up
    wan_command "$@"
}

# A move by libvirt alone: fresh disk overlay at the destination, memory and the disk's difference copied live.
command_migrate() {
    local vm=${1:?usage: lab migrate VM HOST} to=${2:?usage: lab migrate VM HOST} from
    lab_need_up
    host_known "$to" || die "no such host: $to"
    from=$(guest_host "$vm") || die "$vm does not run"
    [[ $from != "$to" ]] || die "$vm is on $to already"
    [[ $(guest_hca "$vm" "$from") == none ]] || die "$vm has an HCA attached; detach it first: lab hca detach $vm"
    guest_disk_create "$vm" "$to"
    virsh_limit=600 host_virsh "$from" migrate --live --p2p --persistent --undefinesource --copy-storage-inc \
        --migrate-disks vda --timeout 300 "$vm" "$(host_peer_uri "$to")"
    rm -f "$(host_images "$from")/$vm.qcow2"
}

guest_hca_is() { [[ $(guest_hca "$1" "$2") == "$3" ]]; }

command_hca() {
    local action=${1-} vm=${2:?usage: lab hca attach|detach VM} host i mac
    lab_need_up
    host=$(guest_host "$vm") || die "$vm does not run"
    case $action in
    detach)
        [[ $(guest_hca "$vm" "$host") != none ]] || return 0
        host_virsh "$host" detach-device-alias "$vm" "$hca_alias" --live >/dev/null
        wait_for 30 guest_hca_is "$vm" "$host" none || die "$vm keeps its HCA: a process in the guest holds it?"
        host_virsh "$host" detach-device-alias "$vm" "$hca_alias" --config >/dev/null 2>&1 || :
        ;;
    attach)
        [[ $(guest_hca "$vm" "$host") == none ]] || return 0
        mac=$(hca_free "$host") || die "no free HCA at $host"
        hca_xml "$mac" >"$LAB_STATE/attach-$vm.xml"
        host_virsh "$host" attach-device "$vm" "$LAB_STATE/attach-$vm.xml" --live >/dev/null
        host_virsh "$host" detach-device-alias "$vm" "$hca_alias" --config >/dev/null 2>&1 || :
        host_virsh "$host" attach-device "$vm" "$LAB_STATE/attach-$vm.xml" --config >/dev/null
        ;;
    *) die "usage: lab hca attach|detach VM" ;;
    esac
}

# hca_free HOST: prints the MAC of an HCA of HOST that no VM has.
hca_free() {
    local i vm used=' '
    host_has_fabric "$1" || return 1
    for vm in $(host_virsh "$1" list --name); do
        used+="$(guest_hca "$vm" "$1") "
    done
    for ((i = 0; i < hcas_per_host; i++)); do
        if [[ $used != *" $(hca_mac "$1" "$i") "* ]]; then
            hca_mac "$1" "$i"
            return 0
        fi
    done
    return 1
}

command_payload() {
    local vm
    lab_need_up
    lock_take
    payload_set "${1:?usage: lab payload DIR}"
    guests_ready $(cat "$LAB_STATE/nodes")
}

command_save() {
    local vm nodes=("$@")
    lab_need_up
    lock_take
    ((${#nodes[@]} > 0)) || mapfile -t nodes <"$LAB_STATE/nodes"
    for vm in "${nodes[@]}"; do
        [[ $(guest_host "$vm") == $(node_home "$vm") ]] || die "$vm is not at home ($(node_home "$vm")); saved guests start there"
        snapshot_take "$vm" "$LAB_STATE/saved"
    done
    guests_start "${nodes[@]}"
}

command_restore() {
    local nodes=("$@")
    lab_need_up
    lock_take
    ((${#nodes[@]} > 0)) || mapfile -t nodes <"$LAB_STATE/nodes"
    guests_start "${nodes[@]}"
}

command_inventory() {
    lab_need_up
    inventory_print
}

command_image() {
    "$LAB_DIR/install-packages"
    image_ensure
    echo "$LAB_IMAGE"
}
