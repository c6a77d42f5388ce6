# NixOS with the module, and without the audit, which has tests of its own in audit/.
{ nixpkgs }:
modules:
import (nixpkgs + "/nixos/lib/eval-config.nix") {
  system = null;
  modules = [
    ../../nixos-module
    (
      { lib, ... }:
      {
        nixpkgs.hostPlatform = "x86_64-linux";
        nixpkgs.overlays = (import ./nixpkgs.nix nixpkgs).overlays;
        system.stateVersion = "26.05";
        imp-mount.audit.level = lib.mkDefault "off";
      }
    )
  ]
  ++ modules;
}
