# The disk before: everything persists. For disko (https://github.com/nix-community/disko).
{
  disko.devices.disk.main = {
    type = "disk";
    device = "/dev/disk/by-id/nvme-cassie-box";
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
        root = {
          size = "500G";
          content = {
            type = "filesystem";
            format = "ext4";
            mountpoint = "/";
          };
        };
      };
    };
  };
}
