# Every kind of entry, and more generations to switch to.
{ lib, ... }:
{
  imports = [
    ./store.nix
    ../../machines/every-kind.nix
  ];
  environment.persistence."/persist".directories = [
    "/nix"
    "/srv/stays"
    "/srv/goes"
  ];

  specialisation.more.configuration.environment.persistence."/persist" = {
    directories = [ "/srv/comes" ];
    files = [
      {
        file = "/etc/comes";
        missing = "create";
      }
    ];
  };
  specialisation.less.configuration.environment.persistence."/persist".directories = lib.mkForce [
    "/nix"
    "/var/lib/nixos"
    "/var/log"
    "/srv/stays"
  ];
  # A file is in its place on the store.
  specialisation.fails.configuration.environment.persistence."/persist".directories = [
    "/srv/blocked"
  ];
}
