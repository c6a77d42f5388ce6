# Two systems with one difference: the module is on, and off.
{ lib, ... }:
{
  imports = [ ./store.nix ];
  fileSystems."/" = {
    device = "none";
    fsType = "tmpfs";
    options = [ "mode=0755" ];
  };
  fileSystems."/persist".neededForBoot = true;
  imp-mount.enable = lib.mkDefault false;
  specialisation.on.configuration = {
    imp-mount.enable = true;
    environment.persistence."/persist".directories = [
      "/nix"
      "/var/lib/nixos"
      "/var/log"
    ];
  };
}
