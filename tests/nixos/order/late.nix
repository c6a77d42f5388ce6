# A disk mounted by the running system, with an entry on the disk.
{
  imports = [ ./plain.nix ];
  fileSystems."/srv" = {
    device = "/dev/disk/by-label/late";
    fsType = "ext4";
  };
  environment.persistence."/persist".directories = [
    {
      directory = "/srv/photos";
      required = true;
    }
  ];
}
