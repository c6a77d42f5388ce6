# Users by systemd-sysusers.
{ lib, ... }:
{
  imports = [ ./store.nix ];
  imp-mount.enable = true;
  systemd.sysusers.enable = true;
  # It makes system users only, and gives no passwords but the first.
  users.users.root.hashedPassword = lib.mkForce null;
  users.users.root.initialHashedPassword = "";
  users.users.ada.enable = false;
  environment.persistence."/persist".directories = [
    "/nix"
    "/var/lib/nixos"
    {
      directory = "/var/lib/zoe";
      user = "zoe";
      group = "zoe";
      mode = "0750";
    }
  ];
  users.users.zoe = {
    isSystemUser = true;
    group = "zoe";
  };
  users.groups.zoe = { };
}
