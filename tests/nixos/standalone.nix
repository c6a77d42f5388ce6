# Messages of home-manager without the NixOS module: named paths would be lost, and are refused, unless disabled.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");
  inherit (lib) mkOption;
  refused =
    persistence:
    let
      inherit
        (lib.evalModules {
          modules = [
            ../../nixos-module/interfaces/home-manager.nix
            {
              options.home.username = mkOption { default = "ada"; };
              options.home.homeDirectory = mkOption { default = "/home/ada"; };
              options.assertions = mkOption { default = [ ]; };
              config.home = { inherit persistence; };
            }
          ];
        })
        config
        ;
    in
    builtins.deepSeq config.home.persistence (
      map (it: it.message) (lib.filter (it: !it.assertion) config.assertions)
    );
  named = {
    directories = [ "Documents" ];
    files = [ ".screenrc" ];
  };
in
{
  refused = refused { "/persist" = named; };
  off = refused {
    "/persist" = named // {
      enable = false;
    };
  };
  empty = refused { "/persist" = { }; };
}
