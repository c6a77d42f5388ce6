# Users declared from persistent paths: no recursion.
{ config, lib, ... }:
{
  imports = [
    ./common.nix
    ./store.nix
  ];
  imp-mount.enable = true;
  environment.persistence."/persist" = {
    directories = [
      "/nix"
      "/var/lib/nixos"
      "/passwords"
      "/home/linus"
    ];
    users.ada.directories = [ "Documents" ];
    users.root.directories = [ "work" ];
    # Homes as a whole.
    users.grace.directories = [ "." ];
  };
  users.users.ada = {
    hashedPasswordFile = "${
      config.environment.persistence."/persist".persistentStoragePath
    }/passwords/ada";
    extraGroups = lib.attrNames config.environment.persistence."/persist".users;
  };
  users.groups.root = { };
  users.users.linus.isNormalUser = true;
  users.users.grace = {
    isNormalUser = true;
    extraGroups = lib.optional (config.environment.persistence != { }) "wheel";
  };
}
