# A conversion without a root.
{
  imports = [
    ./common.nix
    ./store.nix
  ];
  imp-mount.convert = "/persist";
  environment.persistence."/persist".directories = [ "/nix" ];
  boot.initrd.systemd.root = null;
}
