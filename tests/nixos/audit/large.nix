# Real configurations: whole systems are instantiated, so that what goes round in circles shows; and what the tables say of
# services is held against what their units say.
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
        imp-mount.audit = audit;
        imp-mount.persist = lib.genAttrs [ "essentials" "logs" "services" "homes" "containers" ] (_: presets);
      }
    ])
    config
    ;
  state = lib.concatLists (lib.attrValues (import ../../../nixos-module/state { inherit config lib; }));
  units = lib.listToAttrs (
    map (row: lib.nameValuePair row.directory row) (
      lib.filter (row: row ? directory) (
        import ../../../nixos-module/audit/units.nix { inherit config lib; }
      )
    )
  );
  owner =
    row:
    "${row.user or "root"}:${row.group or "root"} ${lib.fixedWidthString 4 "0" (row.mode or "0755")}";
in
{
  system = config.system.build.toplevel.drvPath;
  text = lib.concatStrings config.warnings;
  # One for the table's owner, one for the unit's, where both know the directory and do not agree.
  disagreements = map (row: "${row.directory}: ${owner row}, and ${owner units.${row.directory}}") (
    lib.filter (
      row: row ? directory && units ? ${row.directory} && owner row != owner units.${row.directory}
    ) state
  );
  count = lib.length (lib.filter (row: row ? directory && units ? ${row.directory}) state);
}
