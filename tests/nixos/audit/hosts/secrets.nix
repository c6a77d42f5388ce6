# Passwords only in /etc/shadow, and the keys of sops-nix and agenix.
{ lib, ... }:
{
  imports = [ ../quiet.nix ];
  options = {
    sops.age.keyFile = lib.mkOption { default = "/var/lib/sops-nix/key.txt"; };
    age.identityPaths = lib.mkOption { default = [ "/persist/keys/age" ]; };
  };
  config = {
    users.mutableUsers = true;
    users.users.ada.isNormalUser = true;
    users.users.bob = {
      isNormalUser = true;
      hashedPasswordFile = "/persist/passwords/bob";
    };
    imp-mount.persist.homes = true;
  };
}
