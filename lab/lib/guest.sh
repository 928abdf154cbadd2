# Node VMs: their libvirt definition, start, readiness, ssh, clock and payload.
# SPDX-License-Identifier: BSD-3-Clause

guest_memory_mib=${NINJA_LAB_MEMORY:-512}
guest_cmdline='console=ttyS0 root=/dev/vda mitigations=off quiet nowatchdog tsc=reliable net.ifnames=0
random.trust_cpu=on audit=0 panic=-1'

# guest_xml VM: the definition, with its HCA at home.
guest_xml() {
    local vm=$1 host accel=qemu port ports=''
    host=$(node_home "$vm")
    [[ $(accel_name) == kvm ]] && accel=kvm
    for ((port = 1; port <= hca_pci_bus + 1; port++)); do
        ports+="    <controller type='pci' index='$port' model='pcie-root-port'/>"$'\n'
    done
    cat <<END
<domain type='$accel'>
  <name>$vm</name>
  <uuid>6e696e6a-6100-4000-8000-0000000001$(printf %02x "$(node_number "$vm")")</uuid>
  <memory unit='MiB'>$guest_memory_mib</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-10.0'>hvm</type>
    <kernel>/var/lib/libvirt/images/vmlinuz</kernel>
    <initrd>/var/lib/libvirt/images/initrd</initrd>
    <cmdline>$(echo $guest_cmdline) ninja.name=$vm ninja.ip=$(node_ip "$vm")/$overlay_bits</cmdline>
  </os>
  <features><acpi/><apic/></features>
  $(guest_cpu_xml)
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/run/ninja-host/qemu</emulator>
    <controller type='pci' index='0' model='pcie-root'/>
$ports    <controller type='usb' model='none'/>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='unsafe' discard='unmap'/>
      <source file='/var/lib/libvirt/images/$vm.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='bridge'>
      <mac address='$(node_mac "$vm")'/>
      <source bridge='br-int'/>
      <virtualport type='openvswitch'/>
      <model type='virtio'/>
      <driver name='qemu'>
        <host csum='off' gso='off' tso4='off' tso6='off' ecn='off' ufo='off' mrg_rxbuf='on'/>
        <guest csum='off' tso4='off' tso6='off' ecn='off' ufo='off'/>
      </driver>
      <mtu size='$overlay_mtu'/>
      <rom enabled='no'/>
      <alias name='ua-eth0'/>
    </interface>
$(hca_xml "$(hca_mac "$host" "$(node_home_hca "$vm")")")
    <serial type='file'>
      <source path='/var/log/libvirt/qemu/$vm-console.log' append='on'/>
      <target port='0'/>
    </serial>
    <channel type='unix'>
      <source mode='bind'/>
      <target type='virtio' name='$channel_name'/>
    </channel>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <memballoon model='none'/>
  </devices>
</domain>
END
}

guest_cpu_xml() {
    if [[ $(accel_name) == kvm ]]; then
        echo "<cpu mode='host-model'/>"
    else
        # Emulated, a "rep movsb" copies byte by byte; without these two flags kernel and libc copy words and vectors.
        echo "<cpu mode='maximum' check='none'><feature policy='disable' name='erms'/>"
        echo "<feature policy='disable' name='fsrm'/></cpu>"
    fi
}

# guest_host VM: prints the host on which VM runs.
guest_host() {
    local host
    for host in "${lab_hosts[@]}"; do
        if virsh_limit=20 host_virsh "$host" list --name 2>/dev/null | grep -qx "$1"; then
            echo "$host"
            return 0
        fi
    done
    return 1
}

# guest_disk_create VM HOST: a fresh overlay over the shared base image.
guest_disk_create() {
    rm -f "$(host_images "$2")/$1.qcow2"
    cell_run "$2" qemu-img create -q -f qcow2 -F qcow2 -b /var/lib/libvirt/images/base.qcow2 \
        "/var/lib/libvirt/images/$1.qcow2"
}

# guest_define VM: makes VM known at its home.
guest_define() {
    local vm=$1 host xml=$LAB_STATE/$1.xml
    host=$(node_home "$vm")
    guest_xml "$vm" >"$xml"
    host_virsh "$host" define "$xml" >/dev/null || die "libvirt refuses the definition of $vm on $host"
}

guest_boot() {
    local vm=$1 host
    host=$(node_home "$vm")
    guest_disk_create "$vm" "$host"
    guest_define "$vm"
    : >"$(host_dir "$host")/log/qemu/$vm-console.log"
    host_virsh "$host" start "$vm" >/dev/null || die "$vm did not start on $host"
}

# guest_forget VM: ends VM wherever it is and removes its definition and disk.
guest_forget() {
    local vm=$1 host
    guest_ssh_forget "$vm"
    for host in "${lab_hosts[@]}"; do
        if host_virsh "$host" list --all --name 2>/dev/null | grep -qx "$vm"; then
            host_virsh "$host" destroy "$vm" >/dev/null 2>&1 || :
            host_virsh "$host" undefine "$vm" >/dev/null 2>&1 || :
        fi
        rm -f "$(host_images "$host")/$vm.qcow2"
    done
}

# The guest writes this line to its console when it is up.
guest_booted() { grep -qs "ninja-lab: $1 is up" "$(host_dir "$2")/log/qemu/$1-console.log"; }

guest_ssh_options() {
    printf '%s\n' -F none -i "$LAB_IMAGE/ssh_key" -o "UserKnownHostsFile=$LAB_IMAGE/known_hosts" \
        -o LogLevel=ERROR -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=20 \
        -o ServerAliveInterval=10 -o ServerAliveCountMax=6 -o Ciphers=aes128-gcm@openssh.com \
        -o "ControlPath=$LAB_STATE/ssh/%h"
}

# guest_ssh VM [COMMAND...]: over the overlay, from the observer's namespace, on one shared connection.
guest_ssh() {
    local ip opts
    ip=$(node_ip "$1")
    shift
    mapfile -t opts < <(guest_ssh_options)
    mkdir -p "$LAB_STATE/ssh"
    lab_exec='' cell_run observer ssh "${opts[@]}" -O check "root@$ip" 2>/dev/null ||
        lab_exec='' cell_run observer ssh "${opts[@]}" -o ControlMaster=yes -o ControlPersist=600 -fN "root@$ip" \
            >>"$LAB_STATE/ssh.log" 2>&1 </dev/null || :
    cell_run observer ssh "${opts[@]}" "root@$ip" "$@"
}

# guest_ssh_forget VM: after a guest was started or restored, its old connection leads nowhere.
guest_ssh_forget() {
    local ip opts
    ip=$(node_ip "$1")
    [[ -S $LAB_STATE/ssh/$ip ]] || return 0
    mapfile -t opts < <(guest_ssh_options)
    cell_run observer timeout 5 ssh "${opts[@]}" -O exit "root@$ip" >/dev/null 2>&1 || :
    rm -f "$LAB_STATE/ssh/$ip"
}

guest_answers() { timeout 25 "$LAB_DIR/lab" --state "$LAB_STATE" ssh "$1" true >/dev/null 2>&1 </dev/null; }

# guest_clock_set VM: guests that were saved wake up in the past.
guest_clock_set() { guest_ssh "$1" date -s "@$EPOCHREALTIME" >/dev/null </dev/null; }

# payload_sum DIR: names the content of a payload tree.
payload_sum() {
    tar -C "$1" --sort=name --owner=0 --group=0 --mtime=@0 -cf - . | sha256sum | cut -c1-16
}

# guest_payload_push VM DIR SUM: puts the tree over the guest's root and starts the agent anew.
guest_payload_push() {
    local vm=$1 dir=$2 sum=$3
    tar -C "$dir" --owner=0 --group=0 -cf - . |
        guest_ssh "$vm" "/usr/lib/ninja-lab/payload-take $sum" ||
        die "could not deliver the payload to $vm"
}
