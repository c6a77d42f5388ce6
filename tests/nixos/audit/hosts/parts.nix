# Chosen parts: of homes, of the logs, of systemd's state; keys by a pattern; ignored paths.
{
  imports = [ ../common.nix ];
  services.openssh = {
    enable = true;
    hostKeys = [
      {
        type = "ed25519";
        path = "/etc/ssh/ssh_host_ed25519_key";
      }
      {
        type = "rsa";
        bits = 4096;
        path = "/persist/keys/rsa";
      }
      {
        type = "ecdsa";
        path = "/etc/other_key";
      }
    ];
  };
  services.fail2ban.enable = true;
  services.grafana = {
    enable = true;
    settings.security.secret_key = "of a test";
  };
  users.users.ada.isNormalUser = true;
  users.users.bob.isNormalUser = true;
  environment.persistence."/persist" = {
    directories = [
      "/var/lib/nixos"
      "/var/lib/systemd/timers"
      "/var/log/journal"
    ];
    files = [
      "/var/lib/systemd/random-seed"
      "/etc/ssh/ssh_host_*"
      "/etc/machine-id"
    ];
    users.ada.directories = [ "Documents" ];
  };
  imp-mount.audit.ignore = [
    {
      path = "/var/lib/fail?ban";
      reason = "bans may end with a reboot";
    }
    {
      path = "/var/lib/gra*";
      reason = "dashboards are in the configuration";
    }
  ];
}
