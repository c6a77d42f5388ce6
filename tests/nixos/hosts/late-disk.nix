# File systems mounted by the running system, above and below entries; a tmpfs among them is mounted in the initrd.
{
  imports = [ ./simple.nix ];
  fileSystems."/mnt/pool" = {
    device = "/mnt/disk*";
    fsType = "fuse.mergerfs";
    depends = [ "/mnt/disk1" ];
  };
  fileSystems."/home" = {
    device = "none";
    fsType = "tmpfs";
  };
  fileSystems."/var/lib/postgresql" = {
    device = "/dev/disk/by-label/pg";
    fsType = "ext4";
    neededForBoot = true;
  };
  environment.persistence."/persist".directories = [
    "/mnt/pool/50% of it"
    "/var/lib/postgresql/17"
  ];
}
