# Settings with a possible recursion: units that depend on neededForBoot of file systems, presets alone that enable the
# module, and a store named by presets only.
{ lib, options, ... }:
{
  imports = [ ../common.nix ];
  fileSystems."/persist" = lib.mkForce {
    device = "/dev/disk/by-label/persist";
    fsType = "bcachefs";
  };
  imp-mount = {
    enable = options.imp-mount.enable.default;
    root.size = "2G";
    persist = {
      store = "/persist";
      essentials = true;
      logs = true;
      services = true;
      homes = true;
      containers = true;
    };
  };
}
