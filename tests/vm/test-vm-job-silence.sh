#!/bin/bash
# A VM stands still, or the link between two is cut, for long: jobs over verbs and over TCP go on, mpirun's own
# connections included, and nothing is lost.
# SPDX-License-Identifier: BSD-3-Clause
#
# NINJA_VM_SILENCES is what happens, one after the other: node1:SECONDS and node2:SECONDS (mpirun runs in node1) stop a
# VM, cut:SECONDS cuts what carries lifelines and mpirun's connections; fabrics stay.
. "$(dirname "$0")/job-common.sh"
silences=${NINJA_VM_SILENCES:-node2:30}
# Messages of a job must flow this many seconds after the end of a silence.
flow_limit=60
# TCP itself waits longer and longer, up to two minutes, before it tries again what nobody acknowledged.
output_limit=130
observer_tcp=10.88.0.1:7511

# silent_job_start NAME OBSERVER OPTION...: a job of two ranks that outlives the ssh session from which it is started;
# its ranks also say every 2 s, through mpirun, that they are there. Daemons of two jobs that make one and the same
# session directory at once may fail.
silent_job_start() {
    local name=$1 observer=$2
    shift 2
    "$lab" ssh node1 "cat >/root/$name.sh && chmod 755 /root/$name.sh; setsid /root/$name.sh >/root/$name.log 2>&1 \
        </dev/null & sleep 1" <<END
#!/bin/sh
mpirun --am ninja --mca oob_tcp_keepalive_time 0 --map-by node -n 2 --host node1,node2 --mca mpi_yield_when_idle 1 \
    --mca btl_ninja_verbose 1 \
    --mca orte_tmpdir_base /tmp/session-$name $* \
    sh -c 'pid=\$\$; while kill -0 \$pid 2>/dev/null; do echo "rank on \$(hostname)"; sleep 2; done & exec "\$@"' sh \
    ninja-soak --duration 0 --max-size 64K --rate 10 --observer $observer --json /root/$name.json
echo "mpirun ended with \$?"
END
}

# verified OBSERVER: how many messages that observer has heard of.
verified() {
    "$lab" observe "$build/benchmarks/ninja-observer" --report "$1" | jq '.messages_verified // 0'
}
verified_more() { (($(verified "$1") > $2)); }
# output: how many lines of the rank in node2 mpirun has written.
output() { "$lab" ssh node1 "grep -c 'rank on node2' /root/$1.log"; }
output_more() { (($(output "$1") > $2)); }
runs() { "$lab" ssh node1 "! grep 'mpirun ended' /root/$1.log"; }

# What carries the lifelines between both VMs; neither of them sees it, and both still hear everybody else.
overlay_flows() {
    local a b
    a=$("$lab" ssh node1 cat /sys/class/net/eth0/address) b=$("$lab" ssh node2 cat /sys/class/net/eth0/address)
    printf '%s\n' "priority=100,dl_src=$a,dl_dst=$b" "priority=100,dl_src=$b,dl_dst=$a"
}
silence_begin() {
    local flow
    case $1 in
    cut) for flow in $flows; do "$lab" exec private-a ovs-ofctl add-flow br-int "$flow,actions=drop"; done ;;
    *) "$lab" virsh "${vm_host[$1]}" suspend "$1" >/dev/null ;;
    esac
}
silence_end() {
    local flow
    case $1 in
    cut) for flow in $flows; do "$lab" exec private-a ovs-ofctl --strict del-flows br-int "$flow"; done ;;
    *) "$lab" virsh "${vm_host[$1]}" resume "$1" >/dev/null ;;
    esac
}

# flows_again NAME OBSERVER COUNT: waits until more than COUNT messages were verified.
flows_again() {
    until_true $flow_limit verified_more "$2" "$3" ||
        fail "$1: no message in $flow_limit s after the silence: $("$lab" ssh node1 tail -n 40 "/root/$1.log")"
    echo "ok: $1: messages flow at most $(awk -v from="$ended" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }') s after the silence"
}

# silence WHAT SECONDS
silence() {
    local what=$1 seconds=$2 settle=$(($2 < 30 ? $2 / 3 : 10)) verbs tcp lines name vm
    # Sessions that are open would not outlive it.
    for vm in node1 node2; do vm_close "$vm"; done
    echo "== $what, $seconds s"
    silence_begin "$what" || fail "$what cannot be silenced"
    sleep $settle # what was under way, and the observer on a busy machine
    verbs=$(verified "$observer") tcp=$(verified "$observer_tcp")
    sleep $((seconds - settle))
    check_equal "messages over TCP in the silence" $(($(verified "$observer_tcp") - tcp)) 0
    if [[ $what == cut ]]; then
        verified_more "$observer" $((verbs + seconds * 2)) ||
            fail "the job over verbs stands still, too: $(($(verified "$observer") - verbs)) messages; \
$("$lab" ssh node1 'tail -n 40 /root/verbs.log; uptime; ps -eo pid,stat,wchan:20,time,args | grep -E "mpirun|orted|soak"')"
        echo "ok: the job over verbs does not notice"
    else
        check_equal "messages over verbs in the silence" $(($(verified "$observer") - verbs)) 0
    fi
    verbs=$(verified "$observer") tcp=$(verified "$observer_tcp")
    silence_end "$what" || fail "the silence of $what cannot be ended"
    ended=$EPOCHREALTIME
    flows_again tcp "$observer_tcp" $((tcp + 20))
    flows_again verbs "$observer" $((verbs + 20))
    for vm in node1 node2; do
        vm_open "$vm"
    done
    check "the job over verbs is on verbs again" until_true 60 links_are_on ib0
    for name in verbs tcp; do
        runs "$name" || fail "$name ended: $("$lab" ssh node1 tail -n 20 "/root/$name.log")"
        lines=$(output "$name")
        check "$name: mpirun hears from node2" until_true $output_limit output_more "$name" $((lines + 2))
    done
    awk -v from="$ended" -v to="$EPOCHREALTIME" 'BEGIN { printf "all is as before %.1f s after the silence\n", to - from }'
}

# silent_job_end NAME: ends the job in good order and checks that nothing was lost.
silent_job_end() {
    "$lab" ssh node1 "kill -USR1 \$(pgrep -f '^mpirun .*/root/$1.json')"
    until_true 60 output_has_end "$1" || fail "$1 does not end: $("$lab" ssh node1 tail -n 20 "/root/$1.log")"
    "$lab" ssh node1 "cat /root/$1.json" >"$NINJA_LAB_STATE/soak.json" || fail "$1 has no result"
    jq -c --arg name "$1" '{$name, result, messages_sent, messages_verified, lost, duplicated, corrupt, longest_stall_s}' \
        "$NINJA_LAB_STATE/soak.json"
    jq -e '.result == "ok" and .messages_sent > 100 and .messages_sent == .messages_verified and
        .lost + .duplicated + .corrupt == 0' "$NINJA_LAB_STATE/soak.json" >/dev/null || fail "messages of $1"
}
output_has_end() { "$lab" ssh node1 "grep -q 'mpirun ended with 0' /root/$1.log"; }

job_lab_up
"$lab" observe --listen "$observer_tcp" --json "$NINJA_LAB_STATE/observer-tcp.json" >"$NINJA_LAB_STATE/observer-tcp.log" 2>&1 &
announce node1 && announce node2 || fail "the agents do not answer"
flows=$(overlay_flows)
silent_job_start verbs "$observer"
silent_job_start tcp "$observer_tcp" --mca btl_ninja_agent none --mca btl_ninja_control_dir /tmp/ranks-tcp
until_true 180 links_are_on ib0 || {
    for vm in node1 node2; do status "$vm"; done
    fail "the first job is not on verbs: $("$lab" ssh node1 'cat /root/verbs.log; ls -l /root; ls -R /tmp')"
}
until_true 90 verified_more "$observer_tcp" 20 ||
    fail "the second job has not begun: $("$lab" ssh node1 'tail -n 40 /root/tcp.log; ls -R /tmp/ranks-tcp; ps -eo pid,stat,wchan:20,time,args | grep -E "mpirun|orted|soak"; ss -tnp')"
for item in $silences; do
    silence "${item%:*}" "${item#*:}"
done
silent_job_end verbs
silent_job_end tcp
exit 0
