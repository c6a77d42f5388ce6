# In place of disko.nix: the disk as it is. Its root becomes /persist at the next boot, and nothing is copied.
{
  imports = [ ./disko.before.nix ];
  imp-mount.convert = "/persist";
}
