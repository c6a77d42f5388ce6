# A tmpfs root; every shutdown and every hour saves its unsaved files.
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
