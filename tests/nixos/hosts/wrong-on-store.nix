# A root on a store beside options of a tmpfs, and old roots without a place.
{
  imports = [
    ./common.nix
    ./store.nix
  ];
  imp-mount = {
    root = {
      on = "/persist";
      size = "8G";
    };
    oldRoots.enable = true;
  };
  fileSystems."/" = {
    device = "none";
    fsType = "tmpfs";
    options = [ "mode=0755" ];
  };
  boot.initrd.systemd.root = "fstab";
  environment.persistence."/persist".directories = [
    "/nix"
    "/var/lib/nixos"
  ];
}
