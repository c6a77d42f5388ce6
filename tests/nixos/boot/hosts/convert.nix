# A root on a disk; in a specialisation the disk becomes the store.
{ product, ... }:
{
  imports = [
    product
    ../../machines/converted.nix
  ];
  fileSystems."/" = {
    device = "/run/disks/persist";
    fsType = "ext4";
  };
}
