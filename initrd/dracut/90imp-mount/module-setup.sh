#!/bin/bash
# A dracut module: the initrd mounts what /etc/imp-mount/manifest names, by the units that every systemd initrd gets.
#
# A missing part stops dracut, and the old initrd stays: one without imp-mount would boot another root, without a message.
# dracut sources this file among its own variables, some of them read-only; moddir, initdir and the like are dracut's.
# shellcheck disable=SC2154

# Once there is a manifest the machine boots by it.
check() {
    # Here dracut asks for the sake of one of the host's file systems.
    [[ ${mount_needs-} ]] && return 1
    [[ -e ${dracutsysrootdir-}/etc/imp-mount/manifest ]] && return 0
    return 255
}

# There is no depends(): dracut would leave out a module that lacks another one, and go on.
install() {
    local _manifest=/etc/imp-mount/manifest _host=${dracutsysrootdir-}
    local _binary _plan _folder

    dracut_module_included systemd-initrd ||
        imp_mount_stop "systemd is not in this initrd: take it out of omit_dracutmodules (-o), or add it to dracutmodules (-m)"
    _binary=$(find_binary imp-mount) ||
        imp_mount_stop "there is no program imp-mount: install it as /usr/bin/imp-mount"
    [[ -e $_host$_manifest ]] ||
        imp_mount_stop "there is no $_manifest: write $_manifest.json, and run impctl compile $_manifest.json -o $_manifest"
    # Arguments on the kernel command line of this boot do not hold for the next ones.
    _plan=$("$_host$_binary" --plan --json --manifest "$_host$_manifest" --cmdline /dev/null 2>&1) ||
        imp_mount_stop "${_plan#imp-mount: }"

    inst_binary "$_binary" /usr/bin/imp-mount
    inst_simple "$_manifest"
    inst_hook emergency 50 "$moddir/emergency.sh"
    imp_mount_unit imp-mount.service
    if grep -q -e '^ *"from .* ([^()]*) unless mounted",\{0,1\}$' -e '^ *"phase early",\{0,1\}$' <<< "$_plan"; then
        imp_mount_unit imp-mount-early.service
    fi
    # It lets that unit wait for the devices while udev still runs, and gets a boot past a store that it does not need.
    _folder=$initdir$systemdutildir/system-generators
    mkdir -p "$_folder"
    ln -sfn /usr/bin/imp-mount "$_folder/imp-mount-generator"
}

# Says what is wrong, and ends dracut.
imp_mount_stop() {
    dfatal "imp-mount: $*"
    exit 1
}

# Installs and enables a unit.
imp_mount_unit() {
    [[ -f $moddir/$1 ]] ||
        imp_mount_stop "there is no $moddir/$1: copy the module with the units that it links to, by cp -rL"
    inst_simple "$moddir/$1" "$systemdsystemunitdir/$1"
    $SYSTEMCTL -q --root "$initdir" enable "$1" ||
        imp_mount_stop "$1 cannot be enabled"
}
