# What the lab consists of: sites, hosts, addresses, HCAs and node VMs.
# SPDX-License-Identifier: BSD-3-Clause

lab_sites=(private public)
lab_hosts=(private-a private-b public-a public-b)

# Underlay address: a host's one address for management, migration and tunnels.
declare -A host_ip=(
    [private-a]=10.77.1.11 [private-b]=10.77.1.12
    [public-a]=10.77.2.11 [public-b]=10.77.2.12
)
# Number of a host, part of the MAC addresses of its HCAs.
declare -A host_number=([private-a]=1 [private-b]=2 [public-a]=3 [public-b]=4)

underlay_bits=16
underlay_mtu=1600
overlay_mtu=1450
fabric_mtu=4200
overlay_prefix=10.88.0
overlay_bits=24
observer_ip=$overlay_prefix.1
fabric_name=ib0
# Names the fabric for as long as there are labs: two links may talk over it iff both see this UUID.
fabric_uuid=6e696e6a-6100-4000-8000-000000000001
hcas_per_host=2
# The root port that a VM's HCA is plugged into.
hca_pci_bus=5
hca_alias=ua-hca0
channel_name=org.ninja.symvirt.0
lab_nodes_max=8

host_site() { echo "${1%-*}"; }

host_has_fabric() { [[ $(host_site "$1") == private ]]; }

host_known() { [[ -n ${host_ip[$1]-} ]]; }

# HCA number N (0...) of HOST.
hca_mac() { printf '52:54:00:ca:00:%02x\n' $((host_number[$1] * 16 + $2 + 1)); }

# node_number VM: the N of nodeN.
node_number() {
    [[ $1 =~ ^node([1-9])$ ]] || die "no such VM: $1"
    echo "${BASH_REMATCH[1]}"
}

node_mac() { printf '52:54:00:88:00:%02x\n' "$(node_number "$1")"; }

node_ip() { echo "$overlay_prefix.$((10 + $(node_number "$1")))"; }

# Where a node VM starts: the private hosts in turn.
node_home() {
    local homes=(private-a private-b)
    echo "${homes[($(node_number "$1") - 1) % 2]}"
}

# The HCA that a node VM has at home.
node_home_hca() { echo $((($(node_number "$1") - 1) / 2)); }

lab_node_names() {
    local i
    for ((i = 1; i <= $1; i++)); do
        echo "node$i"
    done
}

host_dir() { echo "$LAB_STATE/hosts/$1"; }

# From the machine: the unix socket is on a path that every process sees.
host_uri() { echo "qemu+unix:///system?socket=$(host_dir "$1")/run/libvirt-sock"; }

# From another host of the lab, over the WAN.
host_peer_uri() { echo "qemu+tcp://${host_ip[$1]}/system"; }
