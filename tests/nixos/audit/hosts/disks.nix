# Paths on a disk of their own are kept; paths on a tmpfs, or bound to the root, are not.
{
  imports = [ ../quiet.nix ];
  fileSystems = {
    "/srv" = {
      device = "/dev/disk/by-label/data";
      fsType = "xfs";
    };
    "/srv/lost" = {
      device = "tmpfs";
      fsType = "tmpfs";
    };
    "/var/lib/postgresql" = {
      device = "/srv/postgresql";
      fsType = "none";
      options = [ "bind" ];
    };
    "/var/lib/fail2ban" = {
      device = "/home/fail2ban";
      fsType = "none";
      options = [ "bind" ];
    };
    "/var/lib/containers" = {
      device = "/dev/disk/by-label/images";
      fsType = "btrfs";
    };
  };
  systemd.mounts = [
    {
      what = "/srv/redis";
      where = "/var/lib/redis-one";
      options = "bind";
    }
  ];
  systemd.tmpfiles.rules = [
    "d /srv/kept"
    "d /srv/lost/below"
  ];
  services = {
    postgresql.enable = true;
    fail2ban.enable = true;
    redis.servers.one.enable = true;
    redis.servers.two.enable = true;
  };
  virtualisation.podman.enable = true;
  # The preset yields to the disk.
  imp-mount.persist.containers = true;
}
