# Old roots of a root on a disk, on one of two stores; a disk at the place of the converted one is in wrong-convert.
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
