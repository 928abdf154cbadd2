# The steps of demo.sh, as functions; demo.sh says in which order.
# SPDX-License-Identifier: BSD-3-Clause
export NINJA_LAB_STATE=/run/ninja-demo
export NINJAD_SOCKET=/run/ninja-demo-ninjad.sock
lab=$top/lab/lab
observer=10.88.0.1:7510
vms="node1 node2"
pids=/run/ninja-demo.pids # "PID START-TIME" of what runs beside the lab

step() { printf '\n== %3d s  %s\n' "$SECONDS" "$*"; }
fail() {
    echo "demo.sh: $*" >&2
    exit 1
}

# --- Processes ---------------------------------------------------------------------------------------

# The start time of a process, which tells it from a later one with the same number; empty if there is none.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
remember() { echo "$1 $(start_time "$1")" >>"$pids"; }

# limited SECONDS COMMAND...: runs it under a time limit and remembers it: if the demo is killed, the next one ends it.
limited() {
    timeout "$@" </dev/null &
    remember $!
    wait $!
}

# Prints which of the remembered processes are still there.
remembered_left() {
    local pid start
    while read -r pid start; do
        [ -z "$start" ] || [ "$(start_time "$pid")" != "$start" ] || echo "$pid"
    done <"$pids"
}

# Ends what the demo (this one or one that was killed) started beside the lab. timeout(1) hands the signal on to all that
# its command has started.
demo_end_processes() {
    local try left
    [ -f "$pids" ] || return 0
    for ((try = 0; try < 50; try++)); do
        left=$(remembered_left)
        [ -n "$left" ] || break
        [ "$try" -ne 0 ] || kill $left 2>/dev/null
        [ "$try" -ne 40 ] || kill -KILL $left 2>/dev/null
        sleep 0.2
    done
    rm -f "$pids"
}

demo_clean() {
    demo_end_processes
    [ ! -e "$NINJA_LAB_STATE" ] || timeout 90 "$lab" down || fail "the cloud could not be removed"
    rm -f "$NINJAD_SOCKET"
}

# --- Building and starting ----------------------------------------------------------------------------

# Runs a command with its output in a log, which is shown if it fails.
quietly() {
    local log=$out/$1.log
    shift
    limited 900 "$@" >"$log" 2>&1 || { tail -n 30 "$log"; fail "failed: $* (all of it: $log)"; }
}

demo_build() {
    quietly autogen ./autogen.sh
    mkdir -p "$build"
    quietly configure env -C "$build" "$top/configure"
    quietly make make -C "$build" -j"$(nproc)"
    rm -rf "$build/payload"
    quietly install make -C "$build" install DESTDIR="$build/payload"
    ninjactl=$build/host-coordinator/ninjactl
    [ -x "$ninjactl" ] || fail "ninjad was not built; see $out/configure.log"
}

demo_cloud_up() {
    limited 600 "$lab" up --payload "$build/payload" || fail "the cloud did not come up"
    cloud_is_up=yes
}

# Writes each line with the time at which it came.
stamp_lines() {
    local line
    while IFS= read -r line; do
        printf '%s %s\n' "$EPOCHREALTIME" "$line"
    done
}

# The packets of a VM's HCA, twice a second: "TIME INSTANCE SENT RECEIVED"; the instance is the number of the
# network interface under it, which is never used twice; "-" while there is none.
start_sampler() {
    "$lab" ssh "$1" 'c=/sys/class/infiniband/rxe0/ports/1/hw_counters
        while :; do
            if { read -r i </sys/class/net/hca0/ifindex; } 2>/dev/null && { read -r s <$c/sent_pkts; } 2>/dev/null &&
                { read -r r <$c/rcvd_pkts; } 2>/dev/null; then echo "$i $s $r"; else echo "- 0 0"; fi
            sleep 0.5
        done' 2>/dev/null </dev/null > >(stamp_lines >"$out/packets-$1.txt") &
    remember $!
}

demo_start() {
    local vm
    "$lab" inventory >"$out/inventory.yaml"
    rm -f "$out/journal.db"*
    "$build/host-coordinator/ninjad" -i "$out/inventory.yaml" -j "$out/journal.db" -s "$NINJAD_SOCKET" \
        >"$out/ninjad.log" 2>&1 </dev/null &
    remember $!
    "$lab" observe --listen "$observer" --csv "$out/beats.csv" --json "$out/observer.json" \
        >"$out/observer.log" 2>&1 </dev/null &
    observer_pid=$!
    remember $!
    wait_until 20 agents_answer || fail "ninjad or the agents do not answer: $(tail -n 3 "$out/ninjad.log")"
    cat "$out/status.txt"
    # A fresh agent knows no fabric: it is told which device is whose.
    for vm in $vms; do
        "$ninjactl" resume "$vm" ib0 || fail "the agent in $vm does not find its HCA"
    done
    # Not as fast as possible: the job and the copies of the VMs share the WAN and these processors.
    "$lab" ssh node1 "exec timeout 900 mpirun --am ninja -n 2 --host node1,node2 --mca btl_ninja_verbose 1 \
        ninja-soak --duration 0 --max-size 16K --rate 200 --stall-limit 120 --observer $observer --json /root/soak.json" \
        </dev/null > >(stamp_lines >"$out/job.txt") 2>&1 &
    job_pid=$!
    remember $!
    for vm in $vms; do
        start_sampler "$vm"
    done
    wait_until 30 "$lab" ssh node1 'pgrep -x mpirun' >"$out/mpirun.txt" 2>/dev/null || fail "mpirun did not start"
    mpirun_before=$(mpirun_identity)
}

# Every VM's agent is heard by ninjad.
agents_answer() {
    "$ninjactl" status >"$out/status.txt" 2>/dev/null && [ "$(grep -c answers "$out/status.txt")" -eq 2 ]
}

# Number and start time of mpirun in its VM.
mpirun_identity() {
    "$lab" ssh node1 'p=$(pgrep -x mpirun) && echo "$p $(cut -d" " -f22 /proc/$p/stat)"' 2>/dev/null
}

# wait_until SECONDS COMMAND...: repeats it until it succeeds.
wait_until() {
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || return 1
        sleep 0.5
    done
}

# --- The job and the moves ------------------------------------------------------------------------------

job_is_on() {
    local vm
    kill -0 "$job_pid" 2>/dev/null || fail "the job has ended: $(tail -n 5 "$out/job.txt")"
    for vm in $vms; do
        "$lab" ssh "$vm" ninja-rankctl status --json 2>/dev/null |
            jq -e --arg on "$1" '[.. | .links? // empty | .[] | .transport] | length >= 1 and all(.[]; . == $on)' \
                >/dev/null || return 1
    done
}

demo_wait_for_verbs() {
    wait_until 120 job_is_on ib0 || fail "the job does not take up InfiniBand: see $out/job.txt"
}

demo_move() {
    limited 400 "$ninjactl" migrate cluster --to "$1" || fail "the move to $1 did not end well: ninjactl explain MOVE tells more"
}

demo_end_job() {
    mpirun_after=$(mpirun_identity)
    "$lab" ssh node1 'kill -USR1 $(pgrep -x mpirun)'
    for _ in $(seq 60); do
        kill -0 "$job_pid" 2>/dev/null || break
        sleep 0.5
    done
    wait "$job_pid"
    job_status=$?
    "$lab" ssh node1 cat /root/soak.json >"$out/soak.json" || fail "the job left no result: $(tail -n 5 "$out/job.txt")"
    demo_stop_observer
    "$ninjactl" history --json >"$out/history.json" || fail "ninjad does not tell its history"
    for move in $(jq '.moves[].id' "$out/history.json"); do
        "$ninjactl" explain "$move" --json
    done | jq -s . >"$out/explained.json"
}

demo_stop_observer() {
    [ -n "${observer_pid:-}" ] || return 0
    kill "$observer_pid" 2>/dev/null
    wait "$observer_pid" 2>/dev/null
    observer_pid=
}

# IMB-like bandwidth over each fabric, for the report's ratios: MB/s of the largest message.
demo_bandwidth() {
    local transport options
    for transport in verbs tcp; do
        options=
        [ "$transport" = verbs ] || options="--mca btl_ninja_agent none"
        "$lab" ssh node1 "timeout 60 mpirun --am ninja -n 2 --host node1,node2 $options \
            ninja-pingpong --min 65536 --max 65536 --iterations 100" >"$out/pingpong-$transport.log" 2>&1 </dev/null ||
            echo "(no figure over $transport)"
        awk '$1 == 65536 { print $4 }' "$out/pingpong-$transport.log"
    done | paste -sd' ' >"$out/bandwidth.txt"
}

# --- The report -----------------------------------------------------------------------------------------

# The longest gap between heartbeats that overlaps the window from $1 to $2.
longest_stall() {
    awk -F, -v from="$1" -v to="$2" 'NR > 1 && $4 != "end" && $1 > from && $1 - $5 < to && $5 > worst { worst = $5 }
        END { printf "%.3f\n", worst }' "$out/beats.csv"
}

# Adds to each move the longest stall while it was under way.
moves_with_stalls() {
    local move from to
    jq -c '.[]' "$out/explained.json" | while read -r move; do
        from=$(jq '[.transitions[] | select(.why == "its turn has come")][0].at // .asked_at' <<<"$move")
        to=$(jq .ended_at <<<"$move")
        jq -c --argjson stall "$(longest_stall "$from" "$to")" --argjson began "$from" \
            '. + {stall_s: $stall, began_at: $began}' <<<"$move"
    done | jq -s .
}

# Samples of all VMs as JSON.
packet_samples() {
    local vm
    for vm in $vms; do
        jq -R -c --arg vm "$vm" 'split(" ") | select(length == 4) |
            {vm: $vm, at: (.[0] | tonumber), instance: .[1], packets: ((.[2] | tonumber) + (.[3] | tonumber))}' \
            "$out/packets-$vm.txt"
    done | jq -s .
}

# Which transport each link was moved to, and when: from the ranks' own lines.
transport_timeline() {
    sed -nE 's/^([0-9.]+) \[[0-9]+\] ninja [0-9]+\.([0-9]+) [0-9]+: link to [0-9a-f]*([0-9a-f]{8}): (\S+) -> (\S+) at.*/\1 \2 \3 \4 \5/p' \
        "$out/job.txt" | jq -R -c 'split(" ") | {at: (.[0] | tonumber), rank: (.[1] | tonumber), from: .[3], to: .[4]}' | jq -s .
}

# How much longer than its VM's downtime a rank may stand still. An emulated VM begins anew at each host to translate what
# it runs, and a job over stock btl/tcp stands still as long (benchmarks/bench-move).
stall_limit() { if grep -qx kvm "$NINJA_LAB_STATE/accel"; then echo 0.3; else echo 1.5; fi; }

demo_report() {
    local status=0
    [ "$job_status" -eq 0 ] || echo "the job's exit code is $job_status"
    moves_with_stalls >"$out/moves.json"
    packet_samples >"$out/packets.json"
    transport_timeline >"$out/transports.json"
    jq -n --slurpfile moves "$out/moves.json" --slurpfile soak "$out/soak.json" --slurpfile packets "$out/packets.json" \
        --slurpfile transports "$out/transports.json" --rawfile bandwidth "$out/bandwidth.txt" \
        --arg before "$mpirun_before" --arg after "$mpirun_after" --argjson limit "$(stall_limit)" \
        -f "$top/benchmarks/demo/report.jq" >"$out/report.json" || fail "no report could be made"
    demo_picture
    "$top/benchmarks/ninja-report" "$out/report.json"
    echo
    jq -r '.checks[] | (if .ok then "ok      " else "FAILED  " end) + .what' "$out/report.json"
    jq -e 'all(.checks[]; .ok)' "$out/report.json" >/dev/null || status=1
    echo
    echo "report: out/demo/report.json   picture: out/demo/timeline.png"
    return "$status"
}

demo_picture() {
    local start
    start=$(jq '[.moves[].began_at] | min - 8' "$out/report.json")
    # Lanes: "VM-LANE BEGIN END STATE", from the transitions of each move.
    jq -r --argjson start "$start" '.[] | . as $m | .transitions as $t | range(0; ($t | length) - 1) |
        [($m.vm | ltrimstr("node")), $t[.].at - $start, $t[. + 1].at - $start, $t[.].state] |
        select(.[3] != "PLANNED") | @tsv' "$out/moves.json" >"$out/lanes.tsv"
    jq -r --argjson start "$start" '.[] | [.stop_at - $start, .resume_at - $start] | @tsv' "$out/moves.json" >"$out/stops.tsv"
    awk -F, -v start="$start" 'NR > 1 { t = $1 - start; print t, $3, $5, $6, $7 }' "$out/beats.csv" >"$out/beats.txt"
    gnuplot -e "dir='$out'" "$top/benchmarks/demo/timeline.gp" >"$out/gnuplot.log" 2>&1 ||
        echo "(no picture: $(tail -n 1 "$out/gnuplot.log"))"
}

demo_what_next() {
    cat <<END

The cloud is still up. Try:
  export NINJA_LAB_STATE=$NINJA_LAB_STATE NINJAD_SOCKET=$NINJAD_SOCKET
  $ninjactl status
  $ninjactl migrate node1 --to public-a
  $ninjactl history
  lab/lab ssh node1                  # a shell in a VM; 'ninja-rankctl status' shows the ranks of a job
  lab/lab wan cut                    # and see what a move does
  ./demo.sh --down                   # removes everything
END
}
