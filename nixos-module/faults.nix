# Refusals of single entries: paths that cannot persist, or that are not what was meant. Faults that impctl knows as well are refused
# before anything is built; impctl also compares the entries.
{ config, lib, ... }:
let
  cfg = config.imp-mount;
  known = import ./known.nix;
  paths = import ./paths.nix;
  stores = lib.filter (path: path != "/") (lib.catAttrs "path" cfg.plan.stores);

  # Directories without a line in the table.
  directories = lib.genAttrs [
    "/boot"
    "/etc"
    "/home"
    "/srv"
    "/tmp"
    "/usr"
    "/var"
    "/var/lib"
    "/var/log"
    "/var/tmp"
  ] (_: true);
  isFile = target: known.state.${target}.file or false;
  isDirectory = target: directories ? ${target} || known.state ? ${target} && !isFile target;

  is = pattern: text: builtins.match pattern text != null;
  # The home of a home.
  twoHomes = "/home/([^/]+)/home/([^/]+)(/.*)?";
  isTwice =
    target:
    let
      names = builtins.match twoHomes target;
    in
    names != null && lib.head names == lib.elemAt names 1;

  # The reason and the remedy, or null.
  fault =
    entry:
    let
      inherit (entry) target;
    in
    if is ".*/[.][.](/.*)?" target then
      "the path goes up with `..`: write it without"
    else if target == "/" then
      "/ itself cannot be an entry: name the paths below it that persist"
    else if is "/(run|proc|sys|dev|nix/store)(/.*)?" target then
      "it is made anew at every boot, or belongs to Nix alone: leave it out"
    else if lib.any (store: paths.isIn store target) stores then
      "it lies in a store, and persists already: leave it out"
    else if lib.any (paths.isIn target) stores then
      "it would cover a store: name the directories beside the store one by one"
    else if entry.kind == "directory" && is ".*[*].*" target then
      "only files can be a pattern: name the directories one by one, or the directory above them"
    else if is ".*/(~|[$][A-Z_]+|[$][{].*)(/.*)?" target then
      "`~` and variables are a shell's: write the path without them, relative to the home below users.<name>"
    else if is ".*/[[:space:]].*|.*[[:space:]](/.*)?" target then
      "a name in it begins or ends with white space: remove that"
    else if isTwice target then
      "the home is in it twice, as paths of a user are relative to the home: name the path below the home"
    else if is "/(etc/static|var/run|var/lock)(/.*)?|/bin/sh|/usr/bin/env" target then
      "NixOS makes a link there at every boot: leave it out"
    else if is "/var/empty(/.*)?" target then
      "NixOS keeps /var/empty empty: give a user of whom something persists a home, users.users.<name>.home"
    else if entry.kind == "directory" && isFile target then
      "it is a file: name it in `files`"
    else if entry.kind == "file" && isDirectory target then
      "it is a directory: name it in `directories`"
    else if entry.missing == "machine-id" && target != "/etc/machine-id" then
      "`missing` machine-id is for /etc/machine-id only: leave it out"
    else
      null;

  # The manifest's own keys are for paths of every kind.
  faults = lib.filter (it: it.fault != null) (
    map (entry: {
      inherit (entry) target from;
      fault = if entry.from == "imp-mount.settings.entries" then null else fault entry;
    }) cfg.entries
  );
in
{
  config.assertions = lib.mkIf cfg.enable [
    {
      assertion = faults == [ ];
      message = ''
        environment.persistence:
            These cannot persist:
              ${lib.concatMapStringsSep "\n      " (it: "${it.target} (${it.from}): ${it.fault}") faults}
      '';
    }
  ];
}
