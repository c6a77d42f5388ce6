# The disk that holds everything. ../machine makes the link /run/disks/persist, as systemd in a container leaves devices alone.
{ product, ... }:
{
  imports = [ product ];
  fileSystems."/persist" = {
    device = "/run/disks/persist";
    fsType = "ext4";
  };
}
