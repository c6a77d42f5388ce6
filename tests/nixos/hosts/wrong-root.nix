# A conversion without a root, and with a disk at its place.
{
  imports = [
    ./common.nix
    ./store.nix
  ];
  imp-mount.convert = "/persist";
  environment.persistence."/persist".directories = [ "/nix" ];
  boot.initrd.systemd.root = null;
}
