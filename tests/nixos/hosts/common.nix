# Settings of every host here: a boot loader, a store on a disk, a user.
{ lib, ... }:
{
  boot.loader.grub.enable = lib.mkDefault false;
  boot.loader.systemd-boot.enable = lib.mkDefault true;
  documentation.enable = false;
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/ESP";
    fsType = "vfat";
  };
  users.users.ada = {
    isNormalUser = true;
    uid = 1000;
    homeMode = "0750";
  };
}
