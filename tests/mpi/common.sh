# Runs an MPI program over Open MPI's own btl/tcp, over btl/ninja, and over btl/ninja while its ranks switch
# transports at random; sourced by the tests in this folder.
# SPDX-License-Identifier: BSD-3-Clause
#
# MPI_SECONDS is how long each program runs under switches (default 4; the other two run once, or half as long),
# MPI_SEED what is random in them and in the switches (default: another one each time; it is printed),
# MPI_VARIANTS which of "tcp ninja switched" to run.
. "${srcdir:-.}/lib/netns.sh"
MPI_SECONDS=${MPI_SECONDS:-4}
NETNS_LIMIT=${NETNS_LIMIT:-120} # starting takes long on a busy machine
MPI_SEED=${MPI_SEED:-$((RANDOM * 30 + RANDOM % 30 + 1))}
MPI_VARIANTS=${MPI_VARIANTS:-tcp ninja switched}

# Sets what the variants differ in.
mpi_variant() {
    case $1 in
    tcp) NINJA_TEST_TRANSPORT=tcp-fast ;;
    *) NINJA_TEST_TRANSPORT=ninja ;;
    esac
    rm -f "$netns_control"/*.sock
}

# Waits for the job of variant $1 and shows what it said.
mpi_wait() {
    local status
    netns_mpirun_wait
    status=$?
    ! grep -q '^SKIP' "$netns_dir/job.log" || netns_skip "$(sed -n 's/^SKIP: //p' "$netns_dir/job.log")"
    [ $status -eq 0 ] || netns_fail "$1: exit code $status"
    ! grep -qE 'WRONG|runtime error:|AddressSanitizer' "$netns_dir"/*.log || netns_fail "$1: not correct"
    sed "s/^/$1: /" "$netns_dir/job.log"
}

# Switches random ranks while the job of $1 ranks runs; ranks that are gone in the end are no failure.
mpi_storm() {
    netns_until 60 netns_ranks_listen "$1" || netns_fail "the ranks do not listen"
    "$builddir/switch-storm" --dir "$netns_control" --ranks "$1" --interval "${MPI_INTERVAL:-20}" \
        --duration "$NETNS_LIMIT" --overlap 5 --seed "$MPI_SEED" \
        >"$netns_dir/storm.json" 2>"$netns_dir/storm.log"
}

# As mpi_storm, for a job whose processes come and go: whoever is there, by ninja-rankctl, until the job ends.
mpi_storm_changing() {
    local sockets name verb
    RANDOM=$((MPI_SEED % 32768))
    declare -A up
    while kill -0 "$netns_job" 2>/dev/null; do
        sockets=("$netns_control"/*.sock)
        name=${sockets[RANDOM % ${#sockets[@]}]##*/} name=${name%.sock}
        verb=release
        [ "${up[$name]-up}" = up ] || verb=resume
        # Processes that end just then do not answer.
        if netns_rankctl --job "${name%.*}" --rank "${name#*.}" --timeout 5 "$verb" fast \
            >"$netns_dir/rankctl.txt" 2>&1; then
            echo "$verb"
            up[$name]=$([ $verb = resume ] && echo up || echo down)
        fi
        sleep "0.0$((RANDOM % 6))"
    done >"$netns_dir/switches.txt"
}

# Fails if the storm did not switch, or a switch failed.
mpi_storm_check() {
    if [ -n "${MPI_CHANGING:-}" ]; then
        printf 'switched: %s releases, %s resumes\n' "$(grep -c release "$netns_dir/switches.txt")" \
            "$(grep -c resume "$netns_dir/switches.txt")"
        [ "$(grep -c resume "$netns_dir/switches.txt")" -ge 3 ] || netns_fail "hardly anything was switched"
        return
    fi
    cat "$netns_dir/storm.json"
    jq -se '.[0] | .releases >= 5 and .resumes >= 5 and .failed == 0' "$netns_dir/storm.json" >/dev/null ||
        netns_fail "hardly anything was switched, or a switch failed"
}

# Runs PROGRAM of the build directory with $1 ranks in all variants. MPI_CHANGING=yes: its processes come and go.
mpi_run() {
    netns_up
    echo "seed $MPI_SEED"
    mpi_variants_run "$@"
}

# As mpi_run, on hosts that are there.
mpi_variants_run() {
    local ranks=$1 program=$2 variant seconds
    shift 2
    for variant in $MPI_VARIANTS; do
        mpi_variant "$variant"
        seconds=$MPI_SECONDS
        case $variant in
        tcp) seconds=0 ;;
        ninja) seconds=$((MPI_SECONDS / 2)) ;;
        esac
        netns_mpirun_start "$ranks" "$(realpath "$builddir")/$program" --seconds "$seconds" \
            --seed "$MPI_SEED" "$@"
        if [ "$variant" = switched ]; then
            if [ -n "${MPI_CHANGING:-}" ]; then mpi_storm_changing; else mpi_storm "$ranks"; fi
        fi
        mpi_wait "$variant"
        [ "$variant" != switched ] || mpi_storm_check
    done
}
