# Paths of state, by group: `imp-mount.persist.<group>` persists them, and the audit names them.
#
# Most rows are in a table shared with impctl (../../src/ctl/known/paths.toml, which explains its keys). The files beside this one add
# rows that depend on the values of options.
#
# A row is { directory | file, user, group, mode, method, mountOptions, why, ... }, all but the path and `why` optional:
#   class   why the path matters, as in the table
#   data    the directory set by an option, if the row is a directory above it
#   home    the home above the path
#   parts   parts of a directory, audited when the whole is not persisted: { path, why }
#   audited false: the audit does not name the path
#   chosen  true: an entry below the path is a choice, and the audit names nothing else in the directory
#
# The attributes read by a preset (all but `parts`) must not depend on entries, as `systemd.services` does: file systems below an entry
# are marked `neededForBoot`, which decides about units of file systems such as bcachefs (nixos/modules/tasks/filesystems). So the
# names in `systemd.services` depend on `fileSystems.*.neededForBoot`, which depends on the entries: a preset that reads
# StateDirectory= of the units is an infinite recursion. Therefore presets read the options of `services`, `users` and the like, and
# `impctl audit` reads the built units. Of `fileSystems` a preset may read mountPoint, fsType and device.
{ config, lib }:
let
  paths = import ../paths.nix;
  known = import ../known.nix;
  normal =
    row: row // lib.optionalAttrs (row ? directory) { directory = paths.join [ row.directory ]; };

  optionAt = text: lib.attrByPath (lib.splitString "." text) null config;
  # A boolean, a module with `enable`, or any value but null.
  isOn =
    value:
    if lib.isBool value then
      value
    else if lib.isAttrs value && value ? enable then
      value.enable == true
    else
      value != null;

  ofTable =
    path: row:
    let
      service = optionAt row.option;
      said = toString service.${row.follows};
      # Some options say a name below /var/lib.
      data = paths.join [ (if lib.hasPrefix "/" said then said else "/var/lib/${said}") ];
      # The whole directory is kept, including other versions, downloads and plugins.
      follows = row ? follows && service ? ${row.follows};
      # NixOS gives some owners by options.
      owner =
        if row.owners or false then
          builtins.intersectAttrs {
            user = null;
            group = null;
          } service
        else
          builtins.intersectAttrs {
            user = null;
            group = null;
          } row;
      isHere =
        isOn service
        && lib.all (it: isOn (optionAt it)) (row.and or [ ])
        && !lib.any (it: isOn (optionAt it)) (row.not or [ ]);
    in
    lib.optional isHere (
      {
        ${if row.file or false then "file" else "directory"} =
          if !follows || paths.isIn path data then path else data;
        why = row.what;
        inherit (row) class;
      }
      // owner
      // builtins.intersectAttrs {
        mode = null;
        method = null;
      } row
      // lib.optionalAttrs (row ? options) { mountOptions = row.options; }
      // lib.optionalAttrs follows { inherit data; }
    );
  tables = lib.mapAttrs (_: rows: lib.concatMap (path: ofTable path known.state.${path}) rows) (
    lib.groupBy (path: known.state.${path}.preset) (
      lib.filter (path: known.state.${path} ? preset && known.state.${path} ? option) (
        lib.attrNames known.state
      )
    )
  );
in
lib.genAttrs
  [
    "essentials"
    "logs"
    "services"
    "homes"
    "containers"
  ]
  (
    group:
    map normal (import (./. + "/${group}.nix") { inherit config lib known; } ++ tables.${group} or [ ])
  )
