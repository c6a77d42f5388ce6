# Paths that are named by other options: homes, units, services, file systems, /etc, and a user whose home is a package.
{
  config,
  lib,
  pkgs,
  ...
}:
{
  imports = [ ./common.nix ];

  fileSystems = {
    "/" = {
      device = "none";
      fsType = "tmpfs";
      options = [ "mode=0755" ];
    };
    "/nix" = {
      device = "/dev/disk/by-label/nix";
      fsType = "ext4";
    };
    "/persist" = {
      device = "/dev/disk/by-label/persist";
      fsType = "ext4";
    };
    "/srv/media" = {
      device = "/dev/disk/by-label/media";
      fsType = "ext4";
    };
  };

  users.users.ada = {
    isNormalUser = true;
    uid = 1000;
  };
  users.users.packaged = {
    isSystemUser = true;
    group = "packaged";
    home = pkgs.hello;
  };
  users.groups.packaged = { };
  systemd.services.recorder = {
    script = "true";
    serviceConfig.StateDirectory = "recorder";
  };
  services.postgresql.enable = true;

  environment.persistence."/persist" = lib.mkMerge [
    {
      directories = [
        "/var/lib/nixos"
        "${config.users.users.ada.home}/mail"
        "/var/lib/${config.systemd.services.recorder.serviceConfig.StateDirectory}"
        config.services.postgresql.dataDir
        "${config.fileSystems."/srv/media".mountPoint}2"
      ];
    }
    (lib.mkIf config.services.postgresql.enable {
      files = [ "/etc/${config.environment.etc.hosts.target}.local" ];
    })
  ];
}
