# One finding in place of several that units and rules have in one directory below /var/lib.
{ lib }:
findings:
let
  place =
    it:
    let
      found = builtins.match "(/var/lib/(private/)?[^/]+)/.+" it.path;
      above = if found == null then "/var/lib/private" else lib.head found;
    in
    if it.fix ? row && it.fix.row ? directory && above != "/var/lib/private" then above else it.path;
  # Owner and mode that all siblings share go to the directory.
  agreed =
    all: key:
    let
      values = lib.unique (map (it: it.fix.row.${key} or null) all);
    in
    lib.optionalAttrs (lib.length values == 1 && lib.head values != null) { ${key} = lib.head values; };
  unite =
    path: all:
    if lib.length all == 1 then
      lib.head all
    else
      lib.head all
      // {
        inherit path;
        why = lib.concatStringsSep ", " (lib.unique (map (it: it.why) all));
        fix.row = {
          directory = path;
        }
        // agreed all "user"
        // agreed all "group"
        // agreed all "mode";
      };
in
lib.mapAttrsToList unite (lib.groupBy place findings)
