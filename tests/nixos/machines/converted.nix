# A specialisation in which the disk of the root becomes the store.
{
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
