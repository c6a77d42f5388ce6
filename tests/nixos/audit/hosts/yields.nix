# Paths of presets are not added twice, nor below other entries.
{
  imports = [ ../common.nix ];
  services.openssh.enable = true;
  services.postgresql.enable = true;
  users.users.ada.isNormalUser = true;
  environment.persistence."/persist" = {
    directories = [
      "/var/lib"
      "/var/log/"
    ];
    files = [
      "/etc/machine-id"
      "/etc/ssh/ssh_host_ed25519_*"
    ];
  };
  environment.persistence."/precious".users.ada.directories = [ "letters" ];
  fileSystems."/precious" = {
    device = "/dev/disk/by-label/precious";
    fsType = "ext4";
  };
  imp-mount.persist = {
    store = "/persist";
    essentials = true;
    logs = true;
    services = true;
    homes = true;
  };
}
