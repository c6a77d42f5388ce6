# An impossible conversion.
{
  imports = [
    ./common.nix
    ./store.nix
  ];
  imp-mount.convert = "/other";
  boot.loader.systemd-boot.enable = false;
  boot.loader.grub.enable = true;
  boot.loader.grub.device = "/dev/sda";
  fileSystems."/boot".enable = false;
  fileSystems."/" = {
    device = "none";
    fsType = "tmpfs";
  };
  boot.initrd.systemd.enable = false;
  environment.persistence."/persist".directories = [ "/var/lib/nixos" ];
}
