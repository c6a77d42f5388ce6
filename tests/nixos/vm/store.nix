# A tmpfs root, and a store on a disk of its own formatted at its first boot.
{ lib, ... }:
{
  virtualisation.fileSystems = {
    "/" = {
      device = lib.mkForce "none";
      fsType = lib.mkForce "tmpfs";
      options = [ "mode=0755" ];
    };
    "/persist" = {
      device = "/dev/vdb";
      fsType = "ext4";
      autoFormat = true;
    };
  };
  virtualisation.emptyDiskImages = [ 512 ];
}
