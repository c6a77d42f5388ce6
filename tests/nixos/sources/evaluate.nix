# Inputs of the package: its two sources, and the script and the crates of its vendor directory.
{ nixpkgs }:
let
  pkgs = (import ../nixpkgs.nix nixpkgs).legacyPackages.x86_64-linux;
  inherit (pkgs) lib;
  package = pkgs.callPackage ../../../nixos-module/package.nix { };
in
{
  package = "${package.src}";
  initrd = "${package.initrd.src}";
  vendor = package.cargoDeps.buildCommand;
  # As importCargoLock fetches them.
  crates = lib.splitString " " (builtins.unsafeDiscardStringContext package.cargoDeps.crates);
}
