#!/bin/bash
# ninjad's answers without any host: bad inventories, bad requests, bad lines, hosts that are not there, a second daemon.
# SPDX-License-Identifier: BSD-3-Clause
set -u
dir=$(mktemp -d /tmp/ninjad-XXXXXX)
pid=
cleanup() {
    [[ -z $pid ]] || kill -KILL "$pid" 2>/dev/null
    rm -rf "$dir"
}
trap cleanup EXIT

fail() {
    echo "FAIL: $*"
    cat "$dir/log" 2>/dev/null
    exit 1
}
# expect CODE TEXT COMMAND...: the exit code, and one line that has TEXT.
expect() {
    local code=$1 text=$2 out rc
    shift 2
    out=$(timeout 30 "$@" 2>&1)
    rc=$?
    ((rc == code)) || fail "$*: exit code $rc, should be $code: $out"
    [[ $out == *"$text"* ]] || fail "$*: says '$out', should say '$text'"
    echo "ok: $text"
}
ctl=("$NINJACTL" -s "$dir/s")

inventory() {
    cat <<END
sites:
  - name: home
    hosts:
      - {name: home-a, uri: "qemu+unix:///system?socket=$dir/none-a", migration_uri: "qemu+tcp://192.0.2.1/system", image_dir: /i}
  - name: cloud
    hosts:
      - {name: cloud-a, uri: "qemu+unix:///system?socket=$dir/none-b", migration_uri: "qemu+tcp://192.0.2.2/system", image_dir: /i}
clusters:
  - name: c1
    vms:
      - {name: vm1, hca_alias: ua-hca0, base_image: /b}
END
}
inventory >"$dir/good.yaml"
sed 's/cloud-a, uri/home-a, uri/' "$dir/good.yaml" >"$dir/bad.yaml"
expect 0 "2 sites, 2 hosts, 1 clusters, 1 VMs" "$NINJAD" --check -i "$dir/good.yaml"
expect 2 "bad.yaml:7: " "$NINJAD" --check -i "$dir/bad.yaml"
expect 2 "bad.yaml:7: " "$NINJAD" -i "$dir/bad.yaml" -j "$dir/j" -s "$dir/s"
expect 2 "--link-limit" "$NINJAD" --link-limit 0

"$NINJAD" -i "$dir/good.yaml" -j "$dir/j" -s "$dir/s" 2>"$dir/log" &
pid=$!
for ((i = 0; i < 100; i++)); do
    [[ -S $dir/s ]] && break
    sleep 0.1
done
[[ $(stat -c %a "$dir/s") == 600 ]] || fail "the socket is for root only"
expect 1 "another ninjad uses it" "$NINJAD" -i "$dir/good.yaml" -j "$dir/j" -s "$dir/s2"
expect 0 "DOWN" "${ctl[@]}" status
expect 0 '"reachable":false' "${ctl[@]}" status --json
expect 0 '"moves":[]' "${ctl[@]}" history --json
expect 2 "no cluster or VM named 'c9'" "${ctl[@]}" migrate c9 --to cloud
expect 2 "no site or host named 'moon'" "${ctl[@]}" migrate c1 --to moon
expect 2 "vm1 runs at no host" "${ctl[@]}" migrate c1 --to cloud
expect 2 "needs --to" "${ctl[@]}" migrate c1
expect 2 "there is no move 7" "${ctl[@]}" abort 7
expect 2 "there is no move 7" "${ctl[@]}" explain 7
expect 2 "is no number" "${ctl[@]}" explain x
expect 2 "no fabric named 'ib0'" "${ctl[@]}" release vm1 ib0
expect 2 "no VM named 'vm9'" "${ctl[@]}" release vm9 ib0
expect 2 "no cluster or VM named 'c9'" "${ctl[@]}" ranks c9
expect 0 "its agent does not answer" "${ctl[@]}" ranks c1
expect 0 '"vm":"vm1","error":"its agent does not answer"' "${ctl[@]}" ranks vm1 --json
expect 2 "usage" "${ctl[@]}" nonsense
expect 2 "--parallel" "${ctl[@]}" migrate c1 --to cloud --parallel 0
expect 1 "no ninjad answers" "$NINJACTL" -s "$dir/nobody" status

expect 0 "raw lines are answered or refused" "$RAW_CLIENT" "$dir/s"
kill -0 "$pid" || fail "ninjad died"
expect 0 "DOWN" "${ctl[@]}" status
kill -TERM "$pid"
for ((i = 0; i < 50; i++)); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
done
kill -0 "$pid" 2>/dev/null && fail "ninjad does not end"
[[ ! -e $dir/s ]] || fail "the socket is left behind"
pid=
echo "ok: ends, and takes its socket away"
