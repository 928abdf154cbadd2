# The lab's networks: a LAN for each site, the WAN between them, the HCA fabric and the overlay.
# SPDX-License-Identifier: BSD-3-Clause

wan_socket() { echo "$LAB_STATE/wan.sock"; }

# An Ethernet switch in the cell "net".
switch_make() {
    cell_run net sh -c "ip link add $1 mtu $2 type bridge forward_delay 0 mcast_snooping 0 && ip link set $1 up"
}

switch_plug() { cell_run net ip link set "$2" master "$1"; }

# Lays all cables between hosts, switches and relay.
network_make() {
    local site host
    cell_run net sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
    for site in "${lab_sites[@]}"; do
        switch_make "lan-$site" "$underlay_mtu"
        cable net "wan-$site" net "far-$site" "$underlay_mtu"
        switch_plug "lan-$site" "wan-$site"
    done
    switch_make fabric "$fabric_mtu"
    for host in "${lab_hosts[@]}"; do
        cable "$host" eth0 net "$host" "$underlay_mtu"
        switch_plug "lan-$(host_site "$host")" "$host"
        if host_has_fabric "$host"; then
            cable "$host" ib0 net "f-$host" "$fabric_mtu"
            switch_plug fabric "f-$host"
        fi
    done
    # The observer sits on the overlay switch of the first private host.
    cable observer eth0 private-a observer "$overlay_mtu"
    cell_run observer sh -c "ip link set lo up
        ip link set eth0 address 52:54:00:88:00:fe
        ip addr add $observer_ip/$overlay_bits dev eth0"
}

# wan_start DELAY_US AB_KBIT BA_KBIT: a is private, b is public.
wan_start() {
    cell_spawn net "$LAB_STATE/wan.log" "$(helper_path wan-relay)" far-private far-public "$(wan_socket)" \
        "set delay_us=$1 ab_kbit=$2 ba_kbit=$3"
    wait_for 5 test -S "$(wan_socket)" || die "the WAN relay did not start: $(cat "$LAB_STATE/wan.log")"
}

wan_ctl() { "$(helper_path wan-relay)" --ctl "$(wan_socket)" "$*"; }

# Prints the round trip time between the sites in ms, as ping sees it between two idle hosts.
wan_rtt_measure() {
    cell_run private-b ping -q -c 10 -i 0.03 -w 5 "${host_ip[public-b]}" |
        awk -F/ '/^rtt|^round-trip/ { print $5 }'
}

# wan_rate_measure FROM TO: prints what a TCP transfer of at most 3 s carries, in Mbit/s.
wan_rate_measure() {
    cell_run "$2" timeout 12 "$(helper_path net-rate)" receive 7700 >"$LAB_STATE/rate" &
    local receiver=$!
    sleep 0.3
    cell_run "$1" timeout 10 "$(helper_path net-rate)" send "${host_ip[$2]}" 7700 2 || :
    wait "$receiver" || :
    cat "$LAB_STATE/rate"
    rm -f "$LAB_STATE/rate"
}

# Says what the WAN does, as measured, not as set; 'status' repeats it.
wan_measure() {
    printf 'WAN measured: RTT %s ms, private to public %s Mbit/s, public to private %s Mbit/s\n' \
        "$(wan_rtt_measure)" "$(wan_rate_measure private-b public-b)" "$(wan_rate_measure public-b private-b)" |
        tee "$LAB_STATE/wan.measured"
}

wan_command() {
    local delay='' ab='' ba='' args=()
    case ${1-} in
    cut | heal | status) wan_ctl "$1" ;;
    measure) wan_measure ;;
    set)
        shift
        while (($# > 0)); do
            case $1 in
            --rtt-ms) delay=$(awk -v ms="$2" 'BEGIN { printf "%d", ms * 500 }') ;;
            --rate-mbit) IFS=/ read -r ab ba <<<"$2" ;;
            *) die "lab wan set: unknown option $1 (--rtt-ms MS, --rate-mbit OUT[/BACK])" ;;
            esac
            shift 2
        done
        [[ -z $delay ]] || args+=("delay_us=$delay")
        rm -f "$LAB_STATE/wan.measured"
        [[ -z $ab ]] || args+=("ab_kbit=$((ab * 1000))" "ba_kbit=$((${ba:-$ab} * 1000))")
        wan_ctl "set ${args[*]}"
        ;;
    *) die "usage: lab wan cut|heal|status|measure|set [--rtt-ms MS] [--rate-mbit OUT[/BACK]]" ;;
    esac
}
