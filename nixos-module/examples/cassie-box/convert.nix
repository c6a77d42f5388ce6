# Replaces disko.nix: the disk stays as it is. Its root becomes /persist at the next boot, without a copy.
{
  imports = [ ./disko.before.nix ];
  imp-mount.convert = "/persist";
}
