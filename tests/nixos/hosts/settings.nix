# Keys of the manifest without another option, beside entries of impermanence's interface.
{
  imports = [
    ./common.nix
    ./store.nix
  ];
  imp-mount.enable = true;
  fileSystems."/media" = {
    device = "/dev/disk/by-label/media";
    fsType = "ext4";
    options = [ "nofail" ];
  };
  # initrd-fs.target does not wait for this store.
  fileSystems."/persist".options = [ "nofail" ];
  imp-mount.settings = {
    entries = [
      # Without `store`: the only named store.
      { directory = "/nix"; }
      {
        directory = "//var/lib/films/";
        source = "/films";
        user = 1000;
      }
      {
        file = "/media/keys";
        user = "ada";
        parents.user = "ada";
        from = "the keys";
      }
      { file = "/home/ada/.config/app"; }
    ];
    parents = [
      {
        directory = "/home/ada/.config";
        user = "ada";
        mode = "0700";
      }
    ];
  };
  environment.persistence."/persist".directories = [ "/var/lib/nixos" ];
}
