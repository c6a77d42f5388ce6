# No persistent paths and no options of imp-mount: the root stays unchanged.
{ options, ... }:
{
  imports = [ ../common.nix ];
  imp-mount.enable = options.imp-mount.enable.default;
  fileSystems."/" = {
    device = "/dev/disk/by-label/root";
    fsType = "ext4";
  };
}
