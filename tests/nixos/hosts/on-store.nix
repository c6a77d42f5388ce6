# The root is a subvolume of the store, and not in fileSystems.
{
  imports = [ ./common.nix ];
  imp-mount = {
    enable = true;
    root.on = "/persist";
    oldRoots.enable = true;
    # Of no use here.
    oldRoots.every = 60;
  };
  fileSystems."/persist" = {
    device = "/dev/disk/by-label/persist";
    fsType = "btrfs";
    options = [ "compress=zstd" ];
  };
  environment.persistence."/persist".directories = [
    "/nix"
    "/var/lib/nixos"
    "/var/log"
  ];
}
