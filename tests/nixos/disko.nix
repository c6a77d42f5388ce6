# The plain example's file systems, as disko makes them, without disko.
{ config, lib, ... }:
let
  mounts =
    device: content:
    {
      filesystem = {
        ${content.mountpoint or null} = {
          inherit device;
          fsType = content.format;
          options = content.mountOptions or [ "defaults" ];
        };
      };
      btrfs = lib.mapAttrs' (
        name: subvolume:
        lib.nameValuePair subvolume.mountpoint {
          inherit device;
          fsType = "btrfs";
          options = subvolume.mountOptions ++ [ "subvol=${name}" ];
        }
      ) content.subvolumes;
      luks = mounts "/dev/mapper/${content.name}" content.content;
    }
    .${content.type};
  partitions = lib.mapAttrsToList (
    name: it: it // { device = "/dev/disk/by-partlabel/disk-main-${name}"; }
  ) (config.disko.devices.disk.main.content.partitions);
in
{
  options.disko.devices = lib.mkOption { type = lib.types.raw; };
  config.fileSystems = lib.mkMerge (map (it: mounts it.device it.content) partitions);
  config.boot.initrd.luks.devices = lib.mkMerge (
    map (it: {
      ${if it.content.type == "luks" then it.content.name else null} = it.content.settings // {
        inherit (it) device;
      };
    }) partitions
  );
}
