# A tmpfs root; every shutdown saves its unsaved files.
{
  imports = [
    ./store.nix
    ../../machines/every-kind.nix
  ];
  imp-mount.oldRoots = {
    enable = true;
    boots = 2;
  };
  environment.persistence."/persist".directories = [ "/nix" ];
}
