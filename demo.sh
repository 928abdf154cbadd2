#!/bin/bash
# Makes a two-site cloud on this machine, runs an MPI job in it, moves it to the other site and back, and checks that it noticed nothing.
# SPDX-License-Identifier: BSD-3-Clause
set -u
cd "$(dirname "$0")" || exit 1
top=$PWD
out=$top/out/demo
build=$top/build-demo
keep=
down_only=
. "$top/benchmarks/demo/steps.sh"

usage() {
    cat <<'END'
usage: ./demo.sh [--keep | --down]

Installs what is missing, builds, starts a cloud of two sites on this machine
(needs root), runs ninja-soak with mpirun in two virtual machines at the site
"private", moves both to "public" and back, and prints a time line and a report.

Exit code 0 only if all of this holds: one and the same mpirun from start to end;
no message lost, duplicated or corrupt; the HCAs' packet counters grow, stand
still, and grow again; and the longest stall of each move is at most that VM's
downtime + 0.3 s, or + 1.5 s where the VMs are emulated (no /dev/kvm): these need
most of a second to run at full speed again (docs/speed.md, "A move").

  --keep   leave the cloud up afterwards and say what to try next
  --down   remove a cloud that was left up

Results: out/demo/report.json (docs/demo-report.md) and out/demo/timeline.png
END
}

while [ $# -gt 0 ]; do
    case $1 in
    --keep) keep=yes ;;
    --down) down_only=yes ;;
    --help | -h) usage; exit 0 ;;
    *) echo "demo.sh: unknown option '$1'; see ./demo.sh --help" >&2; exit 2 ;;
    esac
    shift
done
[ "$(id -u)" -eq 0 ] || { echo "demo.sh: needs root, for network namespaces and virtual machines" >&2; exit 2; }

# A demo that was killed may have left things: they are in the way, and known by their recorded processes.
demo_clean
if [ -n "$down_only" ]; then
    step "the cloud is gone"
    exit 0
fi

finish() {
    local status=$?
    trap - EXIT INT TERM HUP
    if [ -n "$keep" ] && [ -n "${cloud_is_up:-}" ]; then
        demo_stop_observer
        demo_what_next
    else
        demo_clean
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkdir -p "$out"
rm -f "$out"/*.json "$out"/*.csv "$out"/*.log "$out"/*.txt "$out"/*.png
step "installing what is missing"
build-aux/install-packages build check demo && lab/install-packages || fail "packages could not be installed"
step "building"
demo_build
step "starting two sites with two hosts each, and two virtual machines at \"private\""
demo_cloud_up
step "starting the observer, ninjad, and a job of two ranks"
demo_start
step "the job runs on InfiniBand (soft-RoCE here); it is left to run for a moment"
demo_wait_for_verbs
sleep 5
step "moving the cluster to \"public\", where there is only Ethernet"
demo_move public
sleep 5
step "moving the cluster back to \"private\""
demo_move private
step "the job takes up InfiniBand again"
demo_wait_for_verbs
sleep 5
step "ending the job"
demo_end_job
step "measuring what each fabric gives to MPI"
demo_bandwidth
step "report"
demo_report
