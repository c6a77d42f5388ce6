# Hosts for one topic: the common state of all machines is kept.
{
  imports = [ ./common.nix ];
  imp-mount.persist.store = "/persist";
  environment.persistence."/persist" = {
    directories = [
      "/var/lib/nixos"
      "/var/lib/systemd"
      "/var/log"
    ];
    files = [ "/etc/machine-id" ];
  };
}
