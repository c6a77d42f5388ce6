# The same, with the user's entries in home-manager.
{ lib, ... }:
{
  imports = [
    ./machine.nix
    ../../home-manager.nix
  ];
  environment.persistence.main.users = lib.mkForce { };
  home-manager.users.bird.home.persistence.main = import ../user.nix // {
    persistentStoragePath = "/persistent";
  };
}
