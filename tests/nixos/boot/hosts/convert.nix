# A root on a disk; in a specialisation that disk becomes the store.
{ product, ... }:
{
  imports = [ product ];
  fileSystems."/" = {
    device = "/run/disks/persist";
    fsType = "ext4";
  };
  specialisation.converted.configuration = {
    imp-mount.enable = true;
    imp-mount.convert = "/persist";
    environment.persistence."/persist".directories = [
      "/nix"
      "/var/lib/nixos"
      "/var/log"
      "/srv"
    ];
  };
}
