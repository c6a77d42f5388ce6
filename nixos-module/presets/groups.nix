# Paths that hold state, by group: `imp-mount.persist.<group>` persists them, and the audit knows them by name.
#
# Most of it is in the table that impctl has, too (../../src/ctl/known/paths.toml, which explains its keys). In the files beside this
# one is what the values of options say.
#
# A row is { directory | file, user, group, mode, method, mountOptions, why, ... }, all but the path and `why` optional:
#   class   why it matters, as in the table
#   data    where an option puts it, if the row is a directory above that
#   home    the home that it is in
#   parts   what of a directory the audit looks for, when the whole is not named: { path, why }
#   audited false: the audit does not name it
#   chosen  true: whoever names something inside has chosen, and the audit is content
#
# The attributes that a preset reads (all but `parts`) must not read `systemd.services` or anything else that depends on what persists.
# File systems that entries lie on are marked `neededForBoot`, which decides about units of file systems such as bcachefs
# (nixos/modules/tasks/filesystems). So the names in `systemd.services` depend on `fileSystems.*.neededForBoot`, and that on the
# entries: a preset that looked for StateDirectory= in the units would wait for itself. Therefore presets go by the options of
# `services`, `users` and the like, and `impctl audit` reads the units once they are built. Of `fileSystems` a preset may read
# mountPoint, fsType and device.
{ config, lib }:
let
  paths = import ../paths.nix;
  known = import ../known.nix;
  normal =
    row: row // lib.optionalAttrs (row ? directory) { directory = paths.join [ row.directory ]; };

  optionAt = text: lib.attrByPath (lib.splitString "." text) null config;
  # A switch, a module with `enable`, or anything that is there.
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
      # The whole directory is kept, with other versions, downloads and plugins in it.
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
