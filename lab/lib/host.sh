# Lab hosts: their processor group, their set-up and calls to their libvirtd.
# SPDX-License-Identifier: BSD-3-Clause

# Name of this lab's control group: labs with different state directories, or in different roots, do not share one.
cpu_group_name() { echo "ninja-lab-$(stat -c %i /)-$(printf %s "$LAB_STATE" | sha256sum | cut -c1-8)"; }

# cpu_group_make: a group whose guests together get half of what one other busy process gets. Prints the file that
# takes the ids of its threads (version 1) or of its processes (version 2), or nothing where there are no such groups.
cpu_group_make() {
    local name v1=/sys/fs/cgroup/cpu v2=/sys/fs/cgroup
    name=$(cpu_group_name)
    if [[ -e $v1/tasks ]] && mkdir -p "$v1/$name" 2>/dev/null; then
        echo 512 >"$v1/$name/cpu.shares" && echo "$v1/$name/tasks"
    elif grep -qw cpu "$v2/cgroup.controllers" 2>/dev/null; then
        echo +cpu >"$v2/cgroup.subtree_control" 2>/dev/null || :
        mkdir -p "$v2/$name" 2>/dev/null && echo 50 >"$v2/$name/cpu.weight" 2>/dev/null &&
            echo "$v2/$name/cgroup.procs"
    fi || :
}

cpu_group_remove() {
    local name dir
    name=$(cpu_group_name)
    for dir in "/sys/fs/cgroup/cpu/$name" "/sys/fs/cgroup/$name"; do
        [[ ! -d $dir ]] || wait_for 5 rmdir "$dir" 2>/dev/null || say "control group $dir stays"
    done
}

# host_start HOST CPU_TASKS
host_start() {
    local host=$1 peer peers=()
    for peer in "${lab_hosts[@]}"; do
        [[ $peer == "$host" ]] || peers+=("${host_ip[$peer]}")
    done
    mkdir -p "$(host_images "$host")"
    # The base image is at every host beforehand.
    ln -sf "$LAB_IMAGE"/{base.qcow2,vmlinuz,initrd} "$(host_images "$host")/"
    cell_run "$host" env host_ip="${host_ip[$host]}" host_number="${host_number[$host]}" \
        host_names="$(for peer in "${lab_hosts[@]}"; do echo "${host_ip[$peer]} $peer"; done)" \
        guest_exec="$(helper_path guest-exec)" underlay_bits=$underlay_bits underlay_mtu=$underlay_mtu fabric_mtu=$fabric_mtu \
        timeout 120 "$LAB_DIR/lib/host-setup" "$LAB_STATE" "$host" "$2" "${peers[@]}" \
        >"$LAB_STATE/hosts/$host/setup.log" 2>&1 ||
        die "host $host did not start; its last words: $(tail -n 3 "$LAB_STATE/hosts/$host/setup.log")"
}

host_images() { echo "$(host_dir "$1")/lib/images"; }

# host_virsh HOST ARG...
host_virsh() {
    local host=$1
    shift
    timeout "${virsh_limit:-120}" virsh -q -c "$(host_uri "$host")" "$@"
}

host_devices_write() {
    local host=$1 i dir
    dir=$(host_dir "$host")/hca
    host_has_fabric "$host" || return 0
    mkdir -p "$dir"
    for ((i = 0; i < hcas_per_host; i++)); do
        hca_xml "$(hca_mac "$host" "$i")" >"$dir/hca$i.xml"
    done
}

# The lab's HCA: a PCI network device on the fabric's bridge. The guest puts soft-RoCE on it.
hca_xml() {
    cat <<END
<interface type='bridge'>
  <mac address='$1'/>
  <source bridge='br-ib0'/>
  <model type='virtio'/>
  <mtu size='$fabric_mtu'/>
  <alias name='$hca_alias'/>
  <rom enabled='no'/>
  <address type='pci' domain='0x0000' bus='0x$(printf %02x $hca_pci_bus)' slot='0x00' function='0x0'/>
</interface>
END
}
