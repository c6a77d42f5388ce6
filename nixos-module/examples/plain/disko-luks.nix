# The same as disko-btrfs.nix, encrypted: the passphrase is asked for in the initrd, before anything is mounted.
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
        main = {
          size = "100%";
          content = {
            type = "luks";
            name = "main";
            settings.allowDiscards = true;
            content = {
              type = "btrfs";
              subvolumes = {
                "/nix" = {
                  mountpoint = "/nix";
                  mountOptions = [
                    "compress=zstd"
                    "noatime"
                  ];
                };
                "/persist" = {
                  mountpoint = "/persist";
                  mountOptions = [ "compress=zstd" ];
                };
              };
            };
          };
        };
      };
    };
  };
}
