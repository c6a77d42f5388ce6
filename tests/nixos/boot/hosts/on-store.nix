# The root of each boot is a new directory of the store.
{
  imports = [ ./old-roots.nix ];
  imp-mount.root.on = "/persist";
}
