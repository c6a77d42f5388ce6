# Nothing persists, and nothing was said: the root is as it always was.
{ options, ... }:
{
  imports = [ ../common.nix ];
  imp-mount.enable = options.imp-mount.enable.default;
  fileSystems."/" = {
    device = "/dev/disk/by-label/root";
    fsType = "ext4";
  };
}
