# The root of today becomes the store, and the new root is a directory of it, which is removed after the boot that follows.
{
  imports = [ ./convert.nix ];
  imp-mount.root = {
    size = null;
    on = "/persist";
  };
}
