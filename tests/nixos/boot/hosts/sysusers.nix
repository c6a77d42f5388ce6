# Users by systemd-sysusers.
{ lib, ... }:
{
  imports = [
    ./store.nix
    ../../machines/users.nix
  ];
  environment.persistence."/persist".directories = [ "/nix" ];
  systemd.sysusers.enable = true;
  # It makes system users only, and gives no passwords but the first.
  users.users.root.hashedPassword = lib.mkForce null;
  users.users.root.initialHashedPassword = "";
  users.users.ada.enable = false;
}
