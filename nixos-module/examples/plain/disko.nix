# One disk, two file systems. The Nix store is beside the store, so that an installer fills the disk: nothing of imp-mount runs
# before the first boot.
{
  disko.devices.disk.main = {
    type = "disk";
    device = "/dev/disk/by-id/the-disk"; # ls -l /dev/disk/by-id
    content = {
      type = "gpt";
      partitions = {
        ESP = {
          size = "1G";
          type = "EF00";
          content = {
            type = "filesystem";
            format = "vfat";
            mountpoint = "/boot";
            mountOptions = [ "umask=0077" ];
          };
        };
        nix = {
          size = "100G";
          content = {
            type = "filesystem";
            format = "ext4";
            mountpoint = "/nix";
            mountOptions = [ "noatime" ];
          };
        };
        persist = {
          size = "100%";
          content = {
            type = "filesystem";
            format = "ext4";
            mountpoint = "/persist";
          };
        };
      };
    };
  };
}
