# The root of today becomes the store.
{ lib, ... }:
{
  imports = [ ./common.nix ];
  imp-mount = {
    enable = true;
    convert = "/persist";
    root.size = lib.mkDefault "50%";
  };
  fileSystems."/" = {
    device = "/dev/disk/by-uuid/0a1b";
    fsType = "ext4";
  };
  fileSystems."/srv/fast" = {
    device = "/dev/disk/by-label/fast";
    fsType = "xfs";
    neededForBoot = true;
  };
  environment.persistence."/persist".directories = [
    "/nix"
    "/var/lib/nixos"
    "/root"
  ];
}
