# Real boots: NixOS VM tests, by name. They need KVM, or patience.
{
  pkgs,
  # home-manager's NixOS module; without it its test is left out.
  homeManager ? null,
}:
let
  inherit (pkgs) lib;
  test =
    file:
    pkgs.testers.runNixOSTest {
      imports = [ file ];
      defaults = {
        imports = [
          ../../../nixos-module
          ./machine.nix
        ];
      };
    };
  names = [
    "boot"
    "convert"
    "emergency"
    "etc-overlay"
    "switch"
    "userborn"
  ];
in
lib.listToAttrs (map (name: lib.nameValuePair "vm-${name}" (test (./. + "/${name}.nix"))) names)
// lib.optionalAttrs (homeManager != null) {
  vm-home-manager = test (import ./home-manager.nix { inherit homeManager; });
}
