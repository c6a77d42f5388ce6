# The drop-ins that the module adds by packages, as units by their names.
{ lib, config }:
let
  name = package: builtins.match ".*/(.*)[.]d/imp-mount[.]conf" (package.destination or "");
in
lib.listToAttrs (
  lib.concatMap (
    package:
    map (unit: {
      name = unit;
      value = {
        inherit (package) text;
        overrideStrategy = "asDropin";
        wantedBy = [ ];
        requiredBy = [ ];
      };
    }) (if name package == null then [ ] else name package)
  ) config.systemd.packages
)
