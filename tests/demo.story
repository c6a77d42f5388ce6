#!/usr/bin/env bash
# Started by tests/demo in a mount namespace: a tmpfs root is built, used, lost in a reboot and built again.
#
#   tests/demo.story disk|folder PROGRAMS SCRATCH
#
# The store is an ext4 file system in an image, or a directory.
set -euo pipefail

say() {
    printf '\n# %s\n' "$*"
}

# Shows a command, then its output.
run() {
    printf '$ %s\n' "$*"
    "$@"
}

# From here on paths are short.
store=$1
manifest=$(realpath "$(dirname "$0")/demo.json")
mount --bind "$3" /mnt
cd /mnt
mkdir bin sysroot
cp "$2/imp-mount" "$2/impctl" bin
if [[ $store == disk ]]; then
    cp "$manifest" demo.json
else
    # A user namespace has one user.
    sed -E 's/"(user|group)": "[a-z]+",? ?//g' "$manifest" > demo.json
fi
PATH=/mnt/bin:$PATH
boot=(imp-mount --manifest /mnt/manifest --sysroot /mnt/sysroot --cmdline /dev/null)

# A machine has this when imp-mount starts: an empty /run, and the store mounted.
power_on() {
    local nixos
    nixos=$(readlink /run/current-system || true)
    mount -t tmpfs tmpfs /run
    # NixOS has its programs there.
    [[ -z $nixos ]] || ln -s "$nixos" /run/current-system
    mkdir -p sysroot/persist
    if [[ $store == disk ]]; then
        run mount -o loop disk sysroot/persist
    else
        run mount --bind folder sysroot/persist
    fi
}

power_off() {
    local place
    for place in sysroot sysroot/persist; do
        if mountpoint --quiet "$place"; then
            run umount --recursive "$place"
        fi
    done
    umount --recursive /run
}

say "A $store; a host key is on it already"
if [[ $store == disk ]]; then
    truncate -s 64M disk
    run mkfs.ext4 -q disk
else
    run mkdir folder
fi
power_on
install -D -m 0600 /dev/stdin sysroot/persist/etc/ssh/ssh_host_ed25519_key <<< "a key"

say "What shall persist"
run cat demo.json
run impctl compile demo.json -o manifest

say "The boot: imp-mount builds the root"
run "${boot[@]}"
run findmnt --submounts --output TARGET,SOURCE,FSTYPE /mnt/sysroot
run ls -la sysroot/home/alice sysroot/var/lib sysroot/etc

say "The system is used: two files are written, one of them in a place that nobody named"
run tee sysroot/var/lib/postgresql/table <<< "precious"
run tee sysroot/var/lib/scratch <<< "worthless"

say "A reboot: what was only in memory is lost"
power_off
power_on
run "${boot[@]}"

say "What survived"
run cat sysroot/var/lib/postgresql/table
run cat sysroot/etc/ssh/ssh_host_ed25519_key

say "What is gone"
if [[ -e sysroot/var/lib/scratch ]]; then
    echo "nothing: sysroot/var/lib/scratch is still there" >&2
    exit 1
fi
echo "sysroot/var/lib/scratch"

say "Is everything as the manifest says?"
run "${boot[@]}" --check
