# A tmpfs root, of which every shutdown saves what would be lost.
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
