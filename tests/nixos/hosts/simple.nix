# One option, one store, the usual paths.
{
  imports = [
    ./common.nix
    ./store.nix
  ];
  imp-mount.enable = true;
  environment.persistence."/persist" = {
    directories = [
      "/nix"
      "/var/lib/nixos"
      "/var/log"
    ];
    files = [
      "/etc/machine-id"
      "/etc/ssh/ssh_host_*"
    ];
    users.ada.directories = [ "Documents" ];
  };
}
