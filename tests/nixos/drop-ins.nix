# The drop-ins added by the module in packages, as units by their names.
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
