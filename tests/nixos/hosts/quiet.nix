# Warnings switched off.
{
  imports = [
    ./common.nix
    ./store.nix
  ];
  environment.persistence."/persist" = {
    enableWarnings = false;
    directories = [ "/var/log" ];
  };
  fileSystems."/nix" = {
    device = "/dev/disk/by-label/nix";
    fsType = "ext4";
  };
  fileSystems."/" = {
    fsType = "tmpfs";
    options = [ "mode=0755" ];
  };
}
