# The disk with all files. ../machine makes the link /run/disks/persist: systemd in a container starts no udev.
{ product, ... }:
{
  imports = [ product ];
  fileSystems."/persist" = {
    device = "/run/disks/persist";
    fsType = "ext4";
  };
}
