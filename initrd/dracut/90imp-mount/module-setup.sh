#!/bin/bash
# A dracut module: the initrd mounts what /etc/imp-mount/manifest names, by the units that every systemd initrd gets.
#
# What is missing stops dracut, and the initrd of before stays: one without imp-mount would boot another root, without a word.
# dracut sources this file; moddir, initdir and what else is not assigned here is dracut's.
# shellcheck disable=SC2154

manifest=/etc/imp-mount/manifest

# Once there is a manifest the machine boots by it.
check() {
    # Here dracut asks for the sake of one of the host's file systems.
    [[ ${mount_needs-} ]] && return 1
    [[ -e ${dracutsysrootdir-}$manifest ]] && return 0
    return 255
}

# There is no depends(): dracut would leave out a module that lacks another one, and go on.
install() {
    local binary plan devices
    local root=${dracutsysrootdir-}

    dracut_module_included systemd-initrd ||
        stop "systemd is not in this initrd: take it out of omit_dracutmodules (-o), or add it to dracutmodules (-m)"
    binary=$(find_binary imp-mount) ||
        stop "there is no program imp-mount: install it as /usr/bin/imp-mount"
    [[ -e $root$manifest ]] ||
        stop "there is no $manifest: write $manifest.json, and run impctl compile $manifest.json -o $manifest"
    # What this boot was asked for on its kernel command line is not what the next ones do.
    plan=$("$root$binary" --plan --json --manifest "$root$manifest" --cmdline /dev/null 2>&1) ||
        stop "$plan"

    inst_binary "$binary" /usr/bin/imp-mount
    inst_simple "$manifest"
    inst_hook emergency 50 "$moddir/emergency.sh"
    unit imp-mount.service
    devices=$(sed -n 's/^ *"from \(.*\) ([^()]*) unless mounted",\{0,1\}$/\1/p' <<< "$plan")
    if [[ $devices ]] || grep -q '^ *"phase early",\{0,1\}$' <<< "$plan"; then
        unit imp-mount-early.service
        mkdir -p "$initdir/etc/systemd/system/imp-mount-early.service.d"
        early_order "$devices" > "$initdir/etc/systemd/system/imp-mount-early.service.d/dracut.conf"
    fi
}

# Says what is wrong, and ends dracut.
stop() {
    dfatal "imp-mount: $*"
    exit 1
}

# Installs and enables a unit.
unit() {
    [[ -f $moddir/$1 ]] ||
        stop "there is no $moddir/$1: copy the module with the units that it links to, by cp -rL"
    inst_simple "$moddir/$1" "$systemdsystemunitdir/$1"
    $SYSTEMCTL -q --root "$initdir" enable "$1" ||
        stop "$1 cannot be enabled"
}

# What the early unit leaves to whoever installs it. It waits for the devices while udev still runs, has their file systems
# checked, and is done before systemd reads the fstab of the root.
early_order() {
    local device name units

    printf '[Unit]\nBefore=initrd-parse-etc.service\n'
    while read -r device; do
        [[ $device ]] || continue
        if [[ $device == *=* ]]; then
            # In its links udev writes what is unusual in a name like this.
            name=${device#*=}
            name=${name//\//\\x2f}
            name=${name// /\\x20}
            device=${device%%=*}
            device=/dev/disk/by-${device,,}/$name
        fi
        units="$(systemd-escape --path --suffix=device "$device") "
        units+=$(systemd-escape --path --template=systemd-fsck@.service "$device")
        printf 'Wants=%s\nAfter=%s\n' "$units" "$units"
    done <<< "$1"
}
