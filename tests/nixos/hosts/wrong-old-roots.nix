# Old roots of a root that is a disk, on one of two stores; a disk where the converted one is to be is in wrong-convert.
{
  imports = [
    ./common.nix
    ./store.nix
  ];
  imp-mount.oldRoots.enable = true;
  fileSystems."/" = {
    device = "/dev/disk/by-label/root";
    fsType = "btrfs";
  };
  fileSystems."/slow" = {
    device = "/dev/disk/by-label/slow";
    fsType = "ext4";
  };
  environment.persistence."/persist".directories = [ "/var/lib/nixos" ];
  environment.persistence."/slow".directories = [ "/srv" ];
}
