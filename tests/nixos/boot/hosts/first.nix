# Directories, files and homes, each kind once; and two more generations to switch to.
{ lib, ... }:
{
  imports = [ ./store.nix ];
  imp-mount.enable = true;
  services.openssh.enable = true;
  environment.persistence."/persist" = {
    hideMounts = true;
    directories = [
      "/nix"
      "/var/lib/nixos"
      "/var/log"
      {
        directory = "/var/lib/private";
        mode = "0700";
      }
      "/var/lib/private/app"
      {
        directory = "/var/lib/app";
        user = "app";
        group = "app";
        mode = "u=rwx,g=rx,o=";
      }
      "/srv/with space"
      "/srv/stays"
      "/srv/goes"
    ];
    files = [
      "/etc/machine-id"
      "/etc/ssh/ssh_host_*"
    ];
    users.ada = {
      directories = [
        ".config/app"
        {
          directory = ".ssh";
          mode = "0700";
        }
      ];
      files = [ ".screenrc" ];
    };
  };
  # The id is not known when the configuration is evaluated.
  users.users.app = {
    isSystemUser = true;
    group = "app";
  };
  users.groups.app = { };
  # Everything is mounted while the system is activated.
  system.activationScripts.seen = {
    deps = [ "users" ];
    text = "stat -c %i /var/lib/nixos /persist/var/lib/nixos > /run/during-activation";
  };

  specialisation.more.configuration.environment.persistence."/persist" = {
    directories = [ "/srv/comes" ];
    files = [
      {
        file = "/etc/comes";
        missing = "create";
      }
    ];
  };
  specialisation.less.configuration.environment.persistence."/persist".directories = lib.mkForce [
    "/nix"
    "/var/lib/nixos"
    "/var/log"
    "/srv/stays"
  ];
  # A file is in its place on the store.
  specialisation.fails.configuration.environment.persistence."/persist".directories = [ "/srv/blocked" ];
}
