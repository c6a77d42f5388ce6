# The example's file systems, as disko makes them, without disko.
{ config, lib, ... }:
{
  options.disko.devices = lib.mkOption { type = lib.types.raw; };
  config.fileSystems = lib.mapAttrs' (
    name: partition:
    lib.nameValuePair partition.content.mountpoint {
      device = "/dev/disk/by-partlabel/disk-main-${name}";
      fsType = partition.content.format;
      options = partition.content.mountOptions or [ "defaults" ];
    }
  ) config.disko.devices.disk.main.content.partitions;
}
