# The current root becomes the store, and the new root is a directory of the store, removed after the next boot.
{
  imports = [ ./convert.nix ];
  imp-mount.root = {
    size = null;
    on = "/persist";
  };
}
