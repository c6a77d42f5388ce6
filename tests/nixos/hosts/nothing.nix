# Imported, and not used.
{
  imports = [ ./common.nix ];
  fileSystems."/" = {
    device = "/dev/disk/by-label/root";
    fsType = "ext4";
  };
}
