# Settings that could recurse: units that depend on whether file systems are needed for boot, presets alone that decide
# whether anything is done at all, and a store that is found out.
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
