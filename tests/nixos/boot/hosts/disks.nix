# A second store, and a disk mounted by the running system, with entries below it. One disk may be absent.
{ lib, ... }:
{
  imports = [ ./store.nix ];
  imp-mount.enable = true;
  fileSystems."/big" = {
    device = "/run/disks/big";
    fsType = "ext4";
  };
  fileSystems."/mnt/pool" = {
    device = "/run/disks/pool";
    fsType = "ext4";
    neededForBoot = false;
    # Not before the disk is there; systemd in a container has no device units.
    options = [ "nofail" ];
  };
  environment.persistence."/persist".directories = [
    "/nix"
    "/var/lib/nixos"
    "/mnt/pool/cache"
  ];
  environment.persistence."/big" = {
    required = false;
    directories = [ "/srv/films" ];
  };
}
