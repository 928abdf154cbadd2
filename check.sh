#!/bin/bash
# Installs what is missing, builds, runs the tests and ends with one line: "N passed, N failed, N skipped".
# SPDX-License-Identifier: BSD-3-Clause
set -u
cd "$(dirname "$0")" || exit 1
top=$PWD
build=$top/build-check
long=
vm=yes

usage() {
    cat <<'END'
usage: ./check.sh [--long] [--no-vm] [--build DIR]

Installs the Debian packages that are missing, builds the project out of tree,
runs all tests and ends with one line: N passed, N failed, N skipped.

  --long       also run hpcc and the test suite of mpi4py, virtual machines that stand still for
               up to ten minutes, the tests again built with ASan and UBSan, the fuzz targets,
               and the tests in a Debian 13 root with Open MPI 5.0
  --no-vm      leave out the tests that start virtual machines
  --build DIR  build in DIR (default: build-check)
END
}

while [ $# -gt 0 ]; do
    case $1 in
    --long) long=yes ;;
    --no-vm) vm= ;;
    --build) build=${2:?--build needs a directory}; shift ;;
    --help | -h) usage; exit 0 ;;
    *) echo "check.sh: unknown option '$1'; see ./check.sh --help" >&2; exit 2 ;;
    esac
    shift
done
case $build in /*) ;; *) build=$top/$build ;; esac

# Says what step starts, and when.
step() {
    printf '== %s (%ds)\n' "$*" "$SECONDS"
}

# Runs a command with its output in a log; shows the end of the log if it fails.
quietly() {
    local log=$build/$1.log
    shift
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 40 "$log"
        echo "check.sh: failed: $* (whole output: $log)" >&2
        echo "0 passed, 1 failed, 0 skipped"
        exit 1
    fi
}

# Builds the project in directory $1 with the configure arguments that follow.
build_in() {
    local dir=$1
    shift
    mkdir -p "$dir"
    build=$dir quietly configure env -C "$dir" "$top/configure" --enable-developer "$@"
    build=$dir quietly make make -C "$dir" -j"$(nproc)" all
    build=$dir quietly make-tests make -C "$dir" -j"$(nproc)" check TESTS=
}

# Runs `make TARGET` in directory $2 under a time limit of $3 seconds.
run_tests() {
    timeout --kill-after=30 "$3" make -C "$2" -k -j"$(nproc)" "$1" </dev/null
}

passed=0 failed=0 skipped=0
# Adds up the results that automake's harness left under the directories given.
count_results() {
    local result
    while read -r result; do
        case $result in
        PASS | XFAIL) passed=$((passed + 1)) ;;
        SKIP) skipped=$((skipped + 1)) ;;
        *) failed=$((failed + 1)) ;;
        esac
    done < <(find "$@" -name '*.trs' -exec sed -n 's/^:test-result: \([A-Z]*\).*/\1/p' {} +)
}

# Shows the log's end of every test that failed under the directories given, and then what it said of the failure.
show_failures() {
    local trs
    find "$@" -name '*.trs' -exec grep -lE '^:test-result: (FAIL|ERROR|XPASS)' {} + | while read -r trs; do
        echo "---- ${trs%.trs}.log"
        tail -n 60 "${trs%.trs}.log"
        # It may stand before that: some print much more when they end.
        grep -am 5 -E '^(FAIL(ED)?: |not ok |\[  FAILED  \]|.*: error: )' "${trs%.trs}.log"
    done
}

# Says what was skipped under the directories given, and why.
show_skips() {
    local trs
    find "$@" -name '*.trs' -exec grep -l '^:test-result: SKIP' {} + | while read -r trs; do
        echo "skipped: $(basename "${trs%.trs}"): $(grep -am 1 '^SKIP: ' "${trs%.trs}.log" | cut -c 7-)"
    done
}

mkdir -p "$build"
step "Installing packages that are missing"
sections=(build check)
[ -z "$long" ] || sections+=(long)
build-aux/install-packages "${sections[@]}" && { [ -z "$vm" ] || lab/install-packages; } ||
    { echo "0 passed, 1 failed, 0 skipped"; exit 1; }
step "Building"
quietly autogen ./autogen.sh
build_in "$build"
find "$build" -name '*.trs' -delete
dirs=("$build")
step "Running the tests"
run_tests check "$build" 900
status=$?
if [ -n "$vm" ]; then
    step "Running the tests with virtual machines"
    run_tests check-vm "$build" 3000 || status=$?
fi
if [ -n "$long" ]; then
    step "Running programs that are not ours"
    run_tests check-long "$build" 1500 || status=$?
    if [ -n "$vm" ]; then
        step "Running virtual machines that stand still for minutes"
        run_tests check-vm-long "$build" 3000 || status=$?
    fi
    step "Building with ASan and UBSan"
    build_in "$build-asan" --enable-sanitizers
    find "$build-asan" -name '*.trs' -delete
    dirs+=("$build-asan")
    step "Running the tests with ASan and UBSan"
    run_tests check "$build-asan" 1800 || status=$?
    step "Building and testing in a Debian 13 root, with Open MPI 5.0"
    mkdir -p "$build-debian13"
    find "$build-debian13" -name '*.trs' -delete
    tests/debian13/check --build "$build-debian13" </dev/null
    case $? in
    0) dirs+=("$build-debian13") ;;
    77) skipped=$((skipped + 1)) ;;
    *) dirs+=("$build-debian13") status=1 ;;
    esac
    step "Fuzzing"
    run_tests fuzz "$build-asan" 600 || status=$?
fi
count_results "${dirs[@]}"
[ "$skipped" -eq 0 ] || show_skips "${dirs[@]}"
[ "$failed" -eq 0 ] || show_failures "${dirs[@]}"
# A run that broke off without a failed test still failed.
[ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
step "Done"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
