# Stand-ins for packages with a slow evaluation, or missing in some nixpkgs, without an effect on the tests.
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
