# The VM test outside of the flake's checks, because it needs home-manager, down to its derivation.
{ nixpkgs }:
(import ./. {
  pkgs = (import ../nixpkgs.nix nixpkgs).legacyPackages.x86_64-linux;
  homeManager = ../home-manager.nix;
}).vm-home-manager.drvPath
