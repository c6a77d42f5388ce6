# A system for namespaces on the kernel of the testing machine. NixOS would mount a /proc, /sys and devtmpfs of its own in the
# new root, and through these set the machine's kernel parameters and change its devices.
{ lib, ... }:
{
  boot.specialFileSystems = lib.mkForce {
    "/run" = {
      fsType = "tmpfs";
      options = [
        "nosuid"
        "nodev"
        "strictatime"
        "mode=755"
        "size=25%"
      ];
    };
    "/run/keys" = {
      fsType = "ramfs";
      options = [
        "nosuid"
        "nodev"
        "mode=750"
      ];
    };
  };
  # Those of ../machine in their place, with /proc/sys and /sys read-only.
  boot.initrd.systemd.services.kernel-file-systems = {
    unitConfig.DefaultDependencies = false;
    after = [
      "imp-mount.service"
      "initrd-switch-root.target"
    ];
    before = [
      "usr.service"
      "initrd-nixos-activation.service"
      "initrd-switch-root.service"
    ];
    requiredBy = [
      "initrd-nixos-activation.service"
      "initrd-switch-root.service"
    ];
    serviceConfig.Type = "oneshot";
    script = ''
      for name in proc sys dev; do
        mkdir -p /sysroot/$name
        mount --rbind /$name /sysroot/$name
      done
    '';
  };
  # They write to /proc/sys and /sys.
  system.activationScripts.modprobe = lib.mkForce "";
  system.activationScripts.udevd = lib.mkForce "";
  systemd.services.systemd-sysctl.enable = false;
  systemd.services.systemd-udev-trigger.enable = false;
  systemd.services.systemd-udevd.enable = false;
  # ../machine boots no system without this mark.
  system.systemBuilderCommands = "touch $out/for-namespaces";
}
