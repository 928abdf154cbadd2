# The lab described for the coordinator: sites, hosts, fabrics, HCAs, clusters and VMs, as YAML.
# SPDX-License-Identifier: BSD-3-Clause

inventory_host_print() {
    local host=$1 i
    cat <<END
      - name: $host
        uri: "$(host_uri "$host")"
        migration_uri: "$(host_peer_uri "$host")"
        address: ${host_ip[$host]}
        image_dir: /var/lib/libvirt/images
END
    host_has_fabric "$host" || return 0
    echo "        hcas:"
    for ((i = 0; i < hcas_per_host; i++)); do
        cat <<END
          - name: hca$i
            fabric: $fabric_name
            mac: $(hca_mac "$host" "$i")
            device_xml: $(host_dir "$host")/hca/hca$i.xml
END
    done
}

inventory_print() {
    local site host vm
    echo "# Written by 'lab inventory'."
    echo "fabrics:"
    echo "  - name: $fabric_name"
    echo "    uuid: $fabric_uuid"
    echo "sites:"
    for site in "${lab_sites[@]}"; do
        echo "  - name: $site"
        echo "    hosts:"
        for host in "${lab_hosts[@]}"; do
            [[ $(host_site "$host") != "$site" ]] || inventory_host_print "$host"
        done
    done
    echo "clusters:"
    echo "  - name: cluster"
    echo "    vms:"
    for vm in $(cat "$LAB_STATE/nodes"); do
        cat <<END
      - name: $vm
        mac: $(node_mac "$vm")
        address: $(node_ip "$vm")
        hca_alias: $hca_alias
        base_image: /var/lib/libvirt/images/base.qcow2
END
    done
}
