# Settings of most hosts: a store and the Nix store on disks, and no other state.
{ lib, ... }:
{
  fileSystems = {
    "/persist" = {
      device = "/dev/disk/by-label/persist";
      fsType = "ext4";
    };
    "/nix" = {
      device = "/dev/disk/by-label/nix";
      fsType = "ext4";
    };
    "/boot" = {
      device = "/dev/disk/by-label/ESP";
      fsType = "vfat";
    };
  };
  users.mutableUsers = lib.mkDefault false;
  users.allowNoPasswordLogin = true;
  nix.channel.enable = lib.mkDefault false;
  networking.dhcpcd.enable = lib.mkDefault false;
  security.sudo.enable = lib.mkDefault false;
  # Services that need it have it.
  services.logrotate.enable = lib.mkOverride 1400 false;
}
