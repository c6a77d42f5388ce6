# A tmpfs root, of which every shutdown and every hour saves what would be lost.
{
  imports = [ ./simple.nix ];
  imp-mount.oldRoots = {
    enable = true;
    store = "/old/";
    boots = 5;
    saveSeconds = 20;
    every = 60;
  };
  fileSystems."/old" = {
    device = "/dev/disk/by-label/old";
    fsType = "xfs";
  };
}
