# File systems as impermanence's documentation lays them out: volumes of one btrfs, and a tmpfs.
{
  boot.loader.grub.enable = false;
  documentation.enable = false;
  fileSystems = {
    "/" = {
      device = "none";
      fsType = "tmpfs";
      options = [
        "defaults"
        "size=25%"
        "mode=755"
      ];
    };
    "/persistent" = {
      device = "/dev/root_vg/root";
      neededForBoot = true;
      fsType = "btrfs";
      options = [ "subvol=persistent" ];
    };
    "/nix" = {
      device = "/dev/root_vg/root";
      fsType = "btrfs";
      options = [ "subvol=nix" ];
    };
    "/boot" = {
      device = "/dev/disk/by-uuid/XXXX-XXXX";
      fsType = "vfat";
    };
  };
  users.users.bird = {
    isNormalUser = true;
    uid = 1000;
  };
  users.users.fish = {
    isNormalUser = true;
    uid = 1001;
  };
}
