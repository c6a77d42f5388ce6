# Symbolic links made at every boot: their targets by path. Files of environment.etc count as links into the Nix store.
{ config, lib }:
let
  paths = import ../paths.nix;
  inherit (config.environment) etc;
  inherit (config.systemd) tmpfiles;
  fields = rule: lib.filter (it: lib.isString it && it != "") (builtins.split "[ \t]+" rule);
  isLink = type: lib.hasPrefix "L" type;
  unquoted = lib.replaceStrings [ "'" "\"" ] [ "" "" ];
  ofRule =
    rule:
    let
      words = fields rule;
    in
    lib.optional (lib.length words >= 7 && isLink (lib.head words)) (
      lib.nameValuePair (unquoted (lib.elemAt words 1)) (unquoted (lib.elemAt words 6))
    );
  ofSettings =
    path: types:
    lib.mapAttrsToList (_: it: lib.nameValuePair path it.argument) (
      lib.filterAttrs (type: it: isLink type && it.argument or "" != "") types
    );
  rules =
    lib.concatMap ofRule tmpfiles.rules
    ++ lib.concatMap (settings: lib.concatLists (lib.mapAttrsToList ofSettings settings)) (
      lib.attrValues tmpfiles.settings
    );
  isPath = lib.hasPrefix "/";
  # An immutable /etc has a placeholder for this file.
  declared = if config.system.etc.overlay.enable then removeAttrs etc [ "machine-id" ] else etc;
in
lib.mapAttrs' (
  name: it:
  let
    source = toString it.source;
  in
  lib.nameValuePair (paths.join [ "/etc/${name}" ]) (
    if isPath source && lib.hasSuffix "symlink" it.mode then
      paths.join [ source ]
    else
      builtins.storeDir
  )
) (lib.filterAttrs (_: it: it.enable) declared)
// lib.listToAttrs (
  map (
    it:
    it
    // {
      name = paths.join [ it.name ];
      value = paths.join [ it.value ];
    }
  ) (lib.filter (it: isPath it.name && isPath it.value) rules)
)
