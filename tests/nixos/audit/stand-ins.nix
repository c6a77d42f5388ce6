# In place of what takes long to evaluate, or is not in every nixpkgs, and does not matter here.
{ lib, ... }:
{
  nixpkgs.overlays = import ./overlays.nix;
  imp-mount.package = lib.mkDefault {
    type = "derivation";
    name = "imp-mount";
    outPath = "/package";
    initrd = {
      type = "derivation";
      name = "imp-mount-initrd";
      outPath = "/initrd-package";
    };
  };
}
