# Directories, files and homes, each kind once. VM tests and boots in namespaces have this machine.
{
  services.openssh.enable = true;
  imp-mount.enable = true;
  environment.persistence."/persist" = {
    hideMounts = true;
    directories = [
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
}
