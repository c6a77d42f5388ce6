# impctl for the build machine.
{ pkgs, cfg }:
if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
  cfg.package
else
  pkgs.buildPackages.callPackage ./package.nix { }
