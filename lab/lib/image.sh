# The guest image, cached by its recipe, and the choice between KVM and TCG.
# SPDX-License-Identifier: BSD-3-Clause

# Everything that decides what is inside the image.
image_recipe_sum() {
    (cd "$LAB_DIR/image" && find . -type f -print0 | sort -z | xargs -0 sha256sum) | sha256sum | cut -c1-12
}

image_roottar_sum() {
    { sed 's/#.*//; /^[[:space:]]*$/d' "$LAB_DIR/image/packages" && . /etc/os-release && echo "$VERSION_CODENAME"; } |
        sha256sum | cut -c1-12
}

# Sets LAB_IMAGE to the directory of the image, after building it if its recipe is new. One build at a time.
image_ensure() {
    local sum work
    sum=$(image_recipe_sum)
    LAB_IMAGE=$LAB_CACHE/image-$sum
    if [[ -e $LAB_IMAGE/base.qcow2 ]]; then
        touch "$LAB_IMAGE" "$LAB_CACHE/root-$(image_roottar_sum).tar" 2>/dev/null || :
        return 0
    fi
    mkdir -p "$LAB_CACHE"
    chmod 700 "$LAB_CACHE"
    (
        flock -w 900 8 || die "another image build does not end ($LAB_CACHE/build.lock)"
        [[ -e $LAB_IMAGE/base.qcow2 ]] && exit 0
        say "building the guest image"
        # Left over by a build that was killed.
        rm -rf "$LAB_CACHE"/work-*
        work=$LAB_CACHE/work-$$
        mkdir -p "$work/out" "$work/tmp"
        timeout 1200 "$LAB_DIR/image/build" "$work/out" "$work/tmp" \
            "$LAB_CACHE/root-$(image_roottar_sum).tar" >"$LAB_CACHE/build.log" 2>&1 ||
            { rm -rf "$work"; die "image build failed: $(tail -n 5 "$LAB_CACHE/build.log")"; }
        mv "$work/out" "$LAB_IMAGE"
        rm -rf "$work"
        image_prune
    ) 8>"$LAB_CACHE/build.lock" || exit 1
}

# Drops images, saved guests and package roots that nobody used for two days.
image_prune() {
    find "$LAB_CACHE" -mindepth 1 -maxdepth 1 \( -name 'image-*' -o -name 'saved-*' -o -name 'root-*.tar' \) \
        -mtime +1 -exec rm -rf {} +
}

# accel_name: prints kvm only if a kernel really booted with it on this machine since it started, else tcg.
accel_name() {
    local answer=$LAB_CACHE/accel-$(</proc/sys/kernel/random/boot_id)
    if [[ ! -s $answer ]]; then
        rm -f "$LAB_CACHE"/accel-*
        if accel_probe; then
            echo kvm >"$answer"
        else
            echo tcg >"$answer"
        fi
    fi
    cat "$answer"
}

# Boots the guest's kernel with KVM and waits for a word of its first process: /dev/kvm may open and yet start no guest.
accel_probe() {
    local console pid found=1
    [[ -w /dev/kvm ]] || return 1
    say "trying whether KVM starts a guest (at most 10 s)"
    console=$(mktemp)
    # In a shell of its own, which keeps its word about a QEMU that aborts to itself. timeout(1) ends QEMU with it.
    (
        exec >/dev/null 2>&1 </dev/null
        trap 'kill -TERM $!' TERM
        timeout -k 1 12 qemu-system-x86_64 -M q35 -accel kvm -cpu host -m 256 -display none -nodefaults \
            -no-reboot -serial "file:$console" -kernel "$LAB_IMAGE/vmlinuz" -initrd "$LAB_IMAGE/initrd" \
            -append 'console=ttyS0 quiet panic=-1' &
        wait $!
        exit $?
    ) &
    pid=$!
    wait_for 10 accel_probe_over "$pid" "$console" || :
    grep -q 'ninja-lab: first process' "$console" && found=0
    kill -TERM "$pid" 2>/dev/null || :
    { wait "$pid" || :; } 2>/dev/null
    rm -f "$console"
    return $found
}

accel_probe_over() {
    grep -q 'ninja-lab: first process' "$2" || [[ ! -d /proc/$1 ]]
}
