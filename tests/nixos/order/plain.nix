# A tmpfs root, and a store mounted by the initrd.
{
  boot.loader.grub.enable = false;
  boot.loader.systemd-boot.enable = true;
  documentation.enable = false;
  users.allowNoPasswordLogin = true;
  users.users.media = {
    isSystemUser = true;
    group = "media";
  };
  users.groups.media = { };
  fileSystems."/nix" = {
    device = "/dev/disk/by-label/nix";
    fsType = "ext4";
  };
  fileSystems."/persist" = {
    device = "/dev/disk/by-label/persist";
    fsType = "ext4";
  };
  imp-mount.enable = true;
  environment.persistence."/persist" = {
    directories = [
      "/var/lib/nixos"
      {
        directory = "/var/lib/media";
        user = "media";
        group = "media";
        mode = "0750";
      }
    ];
    files = [ "/etc/machine-id" ];
  };
}
