# Users by systemd-sysusers.
{ lib, ... }:
{
  imports = [ ./store.nix ];
  boot.loader.grub.enable = false;
  imp-mount.enable = true;
  systemd.sysusers.enable = true;
  environment.persistence."/persist".directories = [
    "/nix"
    "/var/lib/nixos"
    {
      directory = "/var/lib/app";
      user = "app";
      group = "app";
    }
  ];
  users.users.app = {
    isSystemUser = true;
    group = "app";
  };
  users.groups.app = { };
}
