# Paths named by other options: homes, units, services, file systems, /etc, home-manager, by way of every interface; and a
# user with a package as home. Only the module's import enables the module.
{
  config,
  lib,
  pkgs,
  ...
}:
{
  imports = [
    ./common.nix
    ../home-manager.nix
    (lib.mkAliasOptionModule [ "my" "state" ] [ "environment" "persistence" "/persist" ])
  ];

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
    description = "recorder";
    serviceConfig.StateDirectory = "recorder";
  };
  services.postgresql.enable = true;

  # A store with a key of its own, mounted by imp-mount.
  imp-mount.settings = {
    stores = [
      {
        path = "/keys";
        device = "LABEL=keys";
      }
    ];
    entries = [
      {
        directory = "/srv/keys";
        store = "/keys";
      }
    ];
  };
  my.state.users = lib.mapAttrs (_: user: {
    directories = [ "of/${user.group}" ];
  }) (lib.filterAttrs (_: user: user.isNormalUser) config.users.users);
  home-manager.users.ada =
    { config, ... }:
    {
      home.persistence."/persist".directories = [
        "${lib.removePrefix "${config.home.homeDirectory}/" config.xdg.dataHome}/keyrings"
      ];
    };
  preservation = {
    enable = true;
    preserveAt."/persist" = {
      directories = [
        {
          directory = config.services.postgresql.dataDir + ".old";
          user = config.systemd.services.postgresql.serviceConfig.User;
        }
        "${config.home-manager.users.ada.xdg.stateHome}/app"
      ];
      users.ada.files = lib.optional (config.systemd.timers ? logrotate) ".logrotate";
    };
  };

  environment.persistence."/persist" = lib.mkMerge [
    {
      # Of all services with a StateDirectory.
      directories = lib.mkIf (config.systemd.units ? "recorder.service") (
        map (service: "/var/lib/${lib.head (lib.toList service.serviceConfig.StateDirectory)}2") (
          lib.filter (service: service.serviceConfig ? StateDirectory && service.description == "recorder") (
            lib.attrValues config.systemd.services
          )
        )
      );
    }
    {
      directories = [
        "/var/lib/nixos"
        /var/lib/unquoted
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
