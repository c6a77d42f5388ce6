# Nothing persists, and nothing was said: the root is as it always was.
{ lib, ... }:
{
  imports = [ ../common.nix ];
  imp-mount.enable = null;
  fileSystems."/" = {
    device = "/dev/disk/by-label/root";
    fsType = "ext4";
  };
}
