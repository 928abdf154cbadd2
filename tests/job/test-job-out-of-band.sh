#!/bin/bash
# Tests that Open MPI's own connection between mpirun and the daemon on the other host outlives a cut without keepalive.
# SPDX-License-Identifier: BSD-3-Clause
. "${srcdir:-.}/lib/netns.sh"
seconds=${NINJA_CUT_SECONDS:-15}
netns_up switch
# TCP itself waits longer and longer before it tries again: up to as long as the cut took.
NETNS_LIMIT=$((seconds * 2 + 90)) NETNS_TEST_LIMIT=$((seconds * 2 + 200))
# Keepalive that notices the cut soon, where it is on at all; by default it takes 8 minutes.
impatient=(--mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 3)

# Starts a job whose ranks also say through mpirun, twice a second, that they are there.
job_start() {
    rm -f "$netns_control"/*.sock
    netns_mpirun_start 2 sh -c '
        pid=$$
        while kill -0 $pid 2>/dev/null; do echo "rank on $(hostname)"; sleep 0.5; done &
        exec "$@"' sh "$netns_programs/ninja-soak" --duration 0 --rate 300 --max-size 100K --json "$netns_dir/soak.json"
    netns_until 40 netns_ranks_listen 2 || netns_fail "the ranks do not listen"
    netns_until 20 heard_more 2 || netns_fail "mpirun forwards nothing from the other host"
}

# Prints how many lines have come from host b.
heard() {
    grep -c "rank on $netns_prefix-b" "$netns_dir/job.log"
}
heard_more() {
    [ "$(heard)" -gt "$1" ]
}
job_gone() {
    ! kill -0 "$netns_job" 2>/dev/null
}

# With keepalive the same cut ends the job: or else what follows would show nothing.
NETNS_MCA=("${impatient[@]}" --mca oob_tcp_keepalive_time 2)
job_start
netns_cut eth0
netns_until 30 job_gone || netns_fail "keepalive did not notice the cut"
# In series 5.0 mpirun says so, and exits with 0 all the same.
netns_mpirun_wait && ! grep -q 'lost communication with' "$netns_dir/job.log" &&
    netns_fail "the job succeeded without mpirun's connection to the other host"
netns_heal eth0
echo "with keepalive: the job ended, as $(grep -a -m1 -o 'lost communication with.*' "$netns_dir/job.log")"
# Without mpirun, the ranks end a little later, or not by themselves.
ranks_gone() {
    [ -z "$(netns_rank_pids ninja-soak a; netns_rank_pids ninja-soak b)" ]
}
netns_until 10 ranks_gone ||
    kill -KILL $(netns_rank_pids ninja-soak a; netns_rank_pids ninja-soak b)

# As docs/open-mpi.md says.
NETNS_MCA=("${impatient[@]}" --mca oob_tcp_keepalive_time 0)
case $(ompi_info --version) in *v5.*) NETNS_MCA=("${impatient[@]}" --prtemca oob_tcp_keepalive_time 0) ;; esac
job_start
netns_cut eth0
sleep 1
before=$(heard)
sleep "$seconds"
heard_more $((before + 1)) && netns_fail "the cut was not felt"
netns_heal eth0
start=$SECONDS
netns_until $((seconds + 15)) heard_more $((before + seconds)) ||
    netns_fail "mpirun does not hear of the other host after the cut"
echo "without keepalive: cut for $seconds s, the other host was heard again $((SECONDS - start)) s after it was healed"
netns_soak_stop
netns_mpirun_wait || netns_fail "the job failed"
netns_check_soak "$netns_dir/soak.json"
exit 0
