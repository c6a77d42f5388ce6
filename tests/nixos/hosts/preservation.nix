# A configuration for nix-community/preservation on a tmpfs root, with a disk for the Nix store.
{
  imports = [
    ./common.nix
    ./store.nix
    ../machines/preservation.nix
  ];
  fileSystems."/".fsType = "tmpfs";
  fileSystems."/nix" = {
    device = "/dev/disk/by-label/nix";
    fsType = "ext4";
  };
}
