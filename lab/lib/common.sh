# Messages, waits, process records and the lock of the lab's state directory.
# SPDX-License-Identifier: BSD-3-Clause

lab_started=$EPOCHREALTIME

# Seconds since this command started, one decimal.
lab_elapsed() {
    local us=$((${EPOCHREALTIME/[.,]/} - ${lab_started/[.,]/}))
    printf '%d.%d' $((us / 1000000)) $((us / 100000 % 10))
}

# Progress, to standard error, so that answers on standard output stay clean.
say() {
    [[ -n ${lab_quiet-} ]] || printf 'lab %5ss  %s\n' "$(lab_elapsed)" "$*" >&2
}

die() {
    printf 'lab: %s\n' "$*" >&2
    exit 1
}

# wait_for SECONDS COMMAND...: runs COMMAND until it succeeds; fails after SECONDS.
wait_for() {
    local limit=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
    shift
    until "$@"; do
        ((${EPOCHREALTIME/[.,]/} < limit)) || return 1
        # A subshell must not wait on when the command it works for was killed.
        [[ -d /proc/$$ ]] || exit 1
        sleep 0.1
    done
}

# Start time of process PID in clock ticks since boot; with the pid it names a process for good.
process_start_time() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    set -- ${stat##*) }
    echo "${20}"
}

# process_recorded FILE: prints the pid in FILE ("PID STARTTIME") if that very process still runs.
process_recorded() {
    local pid start
    { read -r pid start <"$1"; } 2>/dev/null || return 1
    [[ -n $start && $(process_start_time "$pid") == "$start" ]] || return 1
    [[ $(sed -n 's/^State:[ \t]*\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) != Z ]] || return 1
    echo "$pid"
}

process_gone() {
    ! process_recorded "$1" >/dev/null
}

# process_end FILE: kills the process recorded in FILE, if it is the one that was recorded, and waits.
process_end() {
    local pid
    pid=$(process_recorded "$1") || return 0
    kill -KILL "$pid" 2>/dev/null || :
    wait_for 20 process_gone "$1" || say "process $pid of $1 does not end"
}

# One command at a time may change the lab. An owner that died leaves its lock behind: it is then taken over.
lock_try() {
    local mine="$LAB_STATE/.lock.$$"
    printf '%s %s\n' "$$" "$(process_start_time $$)" >"$mine"
    if ! ln "$mine" "$LAB_STATE/lock" 2>/dev/null; then
        if process_recorded "$LAB_STATE/lock" >/dev/null; then
            rm -f "$mine"
            return 1
        fi
        mv -f "$mine" "$LAB_STATE/lock"
    fi
    rm -f "$mine"
    # Two may have found the dead owner at once: the last writer has it.
    [[ $(cut -d' ' -f1 "$LAB_STATE/lock") == $$ ]]
}

lock_take() {
    mkdir -p "$LAB_STATE"
    chmod 700 "$LAB_STATE"
    wait_for "${1:-120}" lock_try ||
        die "another lab command (pid $(cut -d' ' -f1 "$LAB_STATE/lock")) is changing $LAB_STATE"
    trap lock_drop EXIT
}

lock_drop() {
    [[ $(cut -d' ' -f1 "$LAB_STATE/lock" 2>/dev/null) != "$$" ]] || rm -f "$LAB_STATE/lock"
}

# helper_path NAME: prints where the compiled helper is; compiles lab/NAME.c into the cache if it is not yet there.
helper_path() {
    local src=$LAB_DIR/$1.c sum bin
    sum=$(sha256sum "$src" | cut -c1-12)
    bin=$LAB_CACHE/bin/$1-$sum
    if [[ ! -x $bin ]]; then
        mkdir -p "$LAB_CACHE/bin"
        "${CC:-gcc}" -std=gnu11 -O2 -Wall -o "$bin.$BASHPID" "$src" || die "cannot compile $src"
        mv "$bin.$BASHPID" "$bin"
    fi
    echo "$bin"
}
