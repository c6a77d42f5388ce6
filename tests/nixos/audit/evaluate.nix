# Messages of the audit for hosts, and inputs of the audit in their builds: { host = { text, reads, parts, manifest, letGo }; }.
{
  nixpkgs,
  # Modules by name.
  hosts ? lib.genAttrs (map (lib.removeSuffix ".nix") (lib.attrNames (builtins.readDir ./hosts))) (
    name: ./hosts + "/${name}.nix"
  ),
  lib ? import (nixpkgs + "/lib"),
}:
let
  evaluate = import ./host.nix { inherit nixpkgs; };
  ofHost =
    _: host:
    let
      inherit (evaluate [ host ]) config;
      isOurs = text: lib.hasInfix "imp-mount" text || lib.hasInfix "environment.persistence" text;
      failed = lib.filter isOurs (
        map (it: it.message) (lib.filter (it: !it.assertion) config.assertions)
      );
      warned = lib.filter isOurs config.warnings;
    in
    {
      # The same wherever this checkout is.
      text = lib.replaceStrings [ (toString ./.) ] [ "tests/nixos/audit" ] (
        lib.concatMapStrings (text: "refused: ${text}\n") failed
        + lib.concatMapStrings (text: "warning: ${text}\n") warned
        + lib.concatMapStrings (
          it: "added: ${it.target} ${it.user}:${toString it.group} ${toString it.mode}\n"
        ) (lib.filter (it: lib.hasPrefix "imp-mount.persist." it.from) config.imp-mount.entries)
      );
      reads = failed == [ ] && config.imp-mount.enable && config.imp-mount.audit.level != "off";
    }
    // import ./built.nix { inherit lib; } config;
in
lib.mapAttrs ofHost hosts
