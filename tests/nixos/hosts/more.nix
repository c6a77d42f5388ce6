# Options of imp-mount only, on every possible entry.
{
  imports = [
    ./common.nix
    ./store.nix
  ];
  imp-mount = {
    enable = true;
    metrics = {
      enable = true;
      file = "/var/lib/node exporter/imp-mount.prom";
    };
    root = {
      size = "8G";
      inodes = "1M";
      mode = "0755";
      options = [ "huge=within_size" ];
    };
  };
  fileSystems."/slow" = {
    device = "/dev/disk/by-label/slow";
    fsType = "ext4";
    options = [ "nofail" ];
  };
  environment.persistence."/persist" = {
    directories = [
      "/nix"
      "/var/lib/nixos"
      {
        directory = "/srv/media";
        required = false;
        mountOptions = [
          "noexec"
          "noatime"
        ];
      }
      {
        directory = "/srv/link";
        method = "symlink";
      }
      {
        directory = "/srv/enforced";
        enforce = true;
        mode = "1777";
        phase = "live";
      }
    ];
    files = [
      {
        file = "/etc/adjtime";
        method = "copy";
        missing = "skip";
      }
      {
        file = "/etc/secret";
        user = "ada";
        group = "users";
        mode = "0600";
        missing = "create";
        required = false;
        enforce = true;
        mountOptions = [ "ro" ];
        phase = "boot";
      }
    ];
  };
  environment.persistence."/slow" = {
    required = false;
    directories = [ "/var/cache" ];
  };
}
