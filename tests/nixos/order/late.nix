# A disk that the running system mounts, and an entry on it.
{
  imports = [ ./plain.nix ];
  fileSystems."/srv" = {
    device = "/dev/disk/by-label/late";
    fsType = "ext4";
  };
  environment.persistence."/persist".directories = [ "/srv/photos" ];
}
