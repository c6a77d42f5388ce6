# A tmpfs root and no Nix store anywhere.
{
  imports = [
    ./common.nix
    ./store.nix
  ];
  fileSystems."/" = {
    fsType = "tmpfs";
    options = [ "mode=0755" ];
  };
  environment.persistence."/persist".directories = [ "/var/lib/nixos" ];
}
