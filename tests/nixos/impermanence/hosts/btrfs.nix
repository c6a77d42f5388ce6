# The same with a root on btrfs, moved aside by a script of the initrd.
{ lib, ... }:
{
  imports = [ ./nixos.nix ];
  fileSystems."/" = {
    device = lib.mkForce "/dev/root_vg/root";
    fsType = lib.mkForce "btrfs";
    options = lib.mkForce [ "subvol=root" ];
  };
  boot.initrd.systemd.enable = false;
  boot.initrd.postResumeCommands = lib.mkAfter "btrfs subvolume create /btrfs_tmp/root";
}
