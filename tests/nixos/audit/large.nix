# Real configurations: whole systems are instantiated, so that what goes round in circles shows.
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
