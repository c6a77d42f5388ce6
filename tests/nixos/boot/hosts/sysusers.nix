# Users by systemd-sysusers.
{ lib, ... }:
{
  imports = [
    ./store.nix
    ../../machines/users.nix
  ];
  environment.persistence."/persist".directories = [ "/nix" ];
  systemd.sysusers.enable = true;
  # systemd-sysusers creates system users only, and sets no passwords but the first.
  users.users.root.hashedPassword = lib.mkForce null;
  users.users.root.initialHashedPassword = "";
  users.users.ada.enable = false;
}
