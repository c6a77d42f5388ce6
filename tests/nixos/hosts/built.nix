# No root in fileSystems: imp-mount builds the root. Other file systems come after it, the store's before.
{
  imports = [ ./simple.nix ];
  boot.initrd.systemd.root = null;
  fileSystems."/var/log" = {
    device = "/dev/disk/by-label/log";
    fsType = "ext4";
  };
}
