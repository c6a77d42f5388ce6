# A required directory.
{
  imports = [ ./store.nix ];
  imp-mount.enable = true;
  environment.persistence."/persist".directories = [
    "/nix"
    "/var/lib/nixos"
    "/srv/media"
  ];
  specialisation.locked.configuration.boot.initrd.systemd.emergencyAccess = false;
}
