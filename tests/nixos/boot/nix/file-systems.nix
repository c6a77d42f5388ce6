# All file systems in fileSystems: a tmpfs root, the disk with all files, and the Nix store on this disk.
{
  fileSystems = {
    "/" = {
      device = "none";
      fsType = "tmpfs";
      options = [ "mode=0755" ];
    };
    "/persist" = {
      device = "/run/disks/persist";
      fsType = "ext4";
      neededForBoot = true;
    };
    "/nix" = {
      device = "/persist/nix";
      fsType = "none";
      options = [ "bind" ];
      depends = [ "/persist" ];
      neededForBoot = true;
    };
  };
}
