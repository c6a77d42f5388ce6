# A host with a tmpfs root, a store at /persist and /nix on a disk, and modules on top.
{ nixpkgs }:
modules:
import (nixpkgs + "/nixos/lib/eval-config.nix") {
  system = null;
  modules = [
    ../../../nixos-module
    ./stand-ins.nix
    (
      { lib, ... }:
      {
        nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
        system.stateVersion = lib.mkDefault "26.05";
        documentation.enable = false;
        boot.loader.systemd-boot.enable = lib.mkDefault true;
        boot.loader.grub.enable = false;
        imp-mount.enable = lib.mkDefault true;
      }
    )
  ]
  ++ modules;
}
