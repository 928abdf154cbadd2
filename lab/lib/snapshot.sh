# Booted guests, saved once (memory and disk) and restored for each test.
# SPDX-License-Identifier: BSD-3-Clause

# Saved guests fit only the image, definition and QEMU that they were saved with.
snapshot_dir() {
    local sum
    sum=$({ qemu-system-x86_64 --version | head -n 1
        virsh --version
        accel_name
        cat "$LAB_DIR/lib/guest.sh" "$LAB_DIR/lib/topology.sh" "$LAB_DIR/lib/host.sh"
        echo "$guest_memory_mib"; } | sha256sum | cut -c1-12)
    echo "$LAB_CACHE/saved-$(basename "$LAB_IMAGE" | cut -d- -f2)-$sum"
}

# snapshot_of VM: prints where VM's saved state is: what 'lab save' kept for this lab, else the one of the fresh boot.
snapshot_of() {
    local dir
    for dir in "$LAB_STATE/saved" "$(snapshot_dir)"; do
        if [[ -e $dir/$1.mem && -e $dir/$1.qcow2 ]]; then
            echo "$dir"
            return 0
        fi
    done
    return 1
}

# snapshot_take VM DIR: saves a guest that runs at home. The guest is stopped by it.
snapshot_take() {
    local vm=$1 host dir=$2 tmp
    host=$(node_home "$vm")
    tmp=$dir/.tmp-$$-$vm
    mkdir -p "$dir"
    guest_ssh "$vm" 'sync; echo 3 >/proc/sys/vm/drop_caches' </dev/null || :
    guest_ssh_forget "$vm"
    host_virsh "$host" save "$vm" "$tmp.mem" >/dev/null || die "could not save $vm"
    cp --sparse=always "$(host_images "$host")/$vm.qcow2" "$tmp.qcow2"
    mv "$tmp.qcow2" "$dir/$vm.qcow2"
    mv "$tmp.mem" "$dir/$vm.mem"
}

# snapshot_restore VM: starts the saved guest at home, in place of whatever runs under its name.
snapshot_restore() {
    local vm=$1 host dir
    host=$(node_home "$vm")
    dir=$(snapshot_of "$vm") || die "no saved state of $vm"
    touch "$dir"
    guest_forget "$vm"
    cp --sparse=always "$dir/$vm.qcow2" "$(host_images "$host")/$vm.qcow2"
    guest_define "$vm"
    host_virsh "$host" restore "$dir/$vm.mem" >/dev/null || die "could not restore $vm on $host"
}

# guests_start VM...: saved guests are restored; the others boot, are saved, and restored like the rest.
guests_start() {
    local vm cold=() pids=()
    for vm in "$@"; do
        snapshot_of "$vm" >/dev/null || cold+=("$vm")
    done
    if ((${#cold[@]} > 0)); then
        say "booting ${cold[*]} (once; later runs restore them)"
        for vm in "${cold[@]}"; do
            guest_boot "$vm"
        done
        for vm in "${cold[@]}"; do
            wait_for 300 guest_booted "$vm" "$(node_home "$vm")" ||
                die "$vm does not boot: $(tail -n 3 "$(host_dir "$(node_home "$vm")")/log/qemu/$vm-console.log")"
            wait_for 60 guest_answers "$vm" || die "$vm boots but does not answer on ssh"
        done
        say "saving ${cold[*]}"
        for vm in "${cold[@]}"; do
            snapshot_take "$vm" "$(snapshot_dir)"
        done
    fi
    say "restoring $*"
    for vm in "$@"; do
        snapshot_restore "$vm" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || exit 1
    done
    guests_ready "$@"
}

# guests_ready VM...: waits for ssh, sets the clock, delivers the payload.
guests_ready() {
    local vm pids=() pid
    for vm in "$@"; do
        (
            wait_for 60 guest_answers "$vm" || die "$vm does not answer on ssh"
            guest_clock_set "$vm" || die "could not set the clock of $vm"
            guest_payload_refresh "$vm"
        ) &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || exit 1
    done
    say "$* up"
}

# The payload given to 'up' belongs to the lab; a guest that was restored gets it again.
guest_payload_refresh() {
    local dir sum
    [[ -e $LAB_STATE/payload ]] || return 0
    read -r sum dir <"$LAB_STATE/payload"
    guest_payload_push "$1" "$dir" "$sum"
}

# payload_set DIR: remembers a tree of our own programs (made with `make install DESTDIR=DIR`) as a packed copy.
payload_set() {
    local sum
    [[ -d $1 ]] || die "no payload directory $1"
    sum=$(payload_sum "$1")
    rm -rf "$LAB_STATE/payload-tree"
    cp -a "$1" "$LAB_STATE/payload-tree"
    find "$LAB_STATE/payload-tree" -type f \( -perm -100 -o -name '*.so*' \) -exec sh -c \
        'for f; do strip --strip-debug "$f" 2>/dev/null || :; done' sh {} +
    echo "$sum $LAB_STATE/payload-tree" >"$LAB_STATE/payload"
}
