# The example host with its root on a disk, which becomes the store; `before` is the same host before the conversion.
{ lib, ... }:
{
  imports = [ ./cassie-box.nix ];
  imp-mount.convert = "/persist";
  fileSystems = {
    "/" = {
      device = "/run/disks/persist";
      fsType = "ext4";
    };
    "/persist".enable = false;
    "/nix".enable = false;
  };
  environment.persistence."/persist".directories = [
    "/nix"
    # Below the pool of data disks, which the running system mounts: one has data there, one not.
    "/mnt/data/series"
    "/mnt/data/new"
  ];
  specialisation.before.configuration.imp-mount = {
    enable = lib.mkForce false;
    convert = lib.mkForce null;
  };
}
