# Stores that cannot keep what persists: in memory, without owners, read-only, without a disk, with a disk that is not mounted; a disabled
# one with the Nix store; impossible paths.
let
  on = fsType: {
    device = "/dev/disk/by-label/data";
    inherit fsType;
  };
in
{
  imports = [ ./common.nix ];
  imp-mount = {
    enable = true;
    # The same path, and no quotes.
    oldRoots = {
      enable = true;
      store = /ext4/.;
    };
    settings.stores = [ { required = false; } ];
  };
  fileSystems = {
    "/memory" = on "tmpfs";
    "/dos" = on "vfat";
    "/image" = on "squashfs";
    "/late" = on "ext4" // {
      options = [ "noauto" ];
    };
    "/ext4" = on "ext4";
  };
  environment.persistence = {
    "/memory".directories = [ "/srv/memory" ];
    "/memory/below".directories = [ "/srv/below" ];
    "/dos/".directories = [ "/srv/dos" ];
    "/image".directories = [ "/srv/image" ];
    "/late".directories = [ "/srv/late" ];
    "/absent".directories = [ "/srv/absent" ];
    "/run/store".directories = [ "/srv/run" ];
    unquoted = {
      persistentStoragePath = /ext4;
      directories = [ "/srv/ext4" ];
    };
    "/disabled" = {
      enable = false;
      directories = [ "/nix" ];
    };
  };
}
