# A small host: an SSH server and a user.
let
  disk = label: {
    device = "/dev/disk/by-label/${label}";
    fsType = "ext4";
    neededForBoot = true;
  };
in
{
  boot.loader.grub.enable = false;
  boot.loader.systemd-boot.enable = true;
  documentation.enable = false;
  fileSystems."/nix" = disk "nix";
  fileSystems."/persist" = disk "persist";
  services.openssh.enable = true;
  users.mutableUsers = false;
  users.allowNoPasswordLogin = true;
  users.users.ada = {
    isNormalUser = true;
    hashedPassword = "!";
  };
}
