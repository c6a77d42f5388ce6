# Real configurations: whole systems are instantiated, which shows any infinite recursion.
{
  nixpkgs,
  name,
  audit ? "warn",
  presets ? false,
}:
let
  lib = import (nixpkgs + "/lib");
  inherit
    (import ./host.nix { inherit nixpkgs; } [
      (./large + "/${name}.nix")
      {
        imp-mount.audit.level = audit;
        imp-mount.persist = lib.genAttrs [ "essentials" "logs" "services" "homes" "containers" ] (
          _: presets
        );
      }
    ])
    config
    ;
in
{
  system = config.system.build.toplevel.drvPath;
  text = lib.concatStrings config.warnings;
}
// import ./built.nix { inherit lib; } config
