# What home-manager says where there is no NixOS module: it warns, refuses nothing, and reads what persists.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");
  inherit (lib) mkOption;
  inherit
    (lib.evalModules {
      modules = [
        ../../nixos-module/home-manager.nix
        {
          options.home.username = mkOption { default = "ada"; };
          options.home.homeDirectory = mkOption { default = "/home/ada"; };
          options.assertions = mkOption { default = [ ]; };
          options.warnings = mkOption { default = [ ]; };
          config.home.persistence."/persist" = {
            directories = [ "Documents" ];
            files = [ ".screenrc" ];
          };
        }
      ];
    })
    config
    ;
in
builtins.deepSeq config.home.persistence {
  inherit (config) warnings;
  assertions = lib.filter (it: !it.assertion) config.assertions;
}
