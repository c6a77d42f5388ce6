# Compares the table of known paths with the modules of nixpkgs: missing options, and owners and modes that differ from those of a
# system with the option alone.
{
  nixpkgs,
  # Rows by their paths, for owners and modes; without it all options are checked.
  paths ? null,
}:
let
  lib = import (nixpkgs + "/lib");
  inherit (import ./systems.nix { inherit nixpkgs; }) evaluate;
  known = import ../../../nixos-module/known.nix;
  rows = lib.filterAttrs (_: row: row ? option && !lib.elem row.option foreign) known.state;
  bare = (evaluate { }).options;
  at = text: lib.splitString "." text;
  isOption = path: lib.hasAttrByPath path bare;

  # Options of other projects.
  foreign = [ "boot.lanzaboote" ];
  # Programs that change the mode at their start.
  own = [ "/var/lib/containerd" ];
  missing =
    row:
    lib.filter (text: !isOption (at text)) (
      [ row.option ]
      ++ lib.filter (text: !lib.hasPrefix "users.users." text) (row.and or [ ] ++ row.not or [ ])
      ++ lib.optional (row ? follows) "${row.option}.${row.follows}"
      ++ lib.optionals (row.owners or false) (
        # Some have but one of them.
        lib.optional (
          !isOption (at row.option ++ [ "user" ]) && !isOption (at row.option ++ [ "group" ])
        ) "${row.option}.user"
      )
    );

  on =
    row:
    let
      isSwitch = isOption (at row.option ++ [ "enable" ]);
      set = path: lib.setAttrByPath path true;
    in
    (evaluate (set (at row.option ++ lib.optional isSwitch "enable"))).config;

  words = value: lib.concatMap (lib.splitString " ") (map toString (lib.toList value));
  mode = text: lib.fixedWidthString 4 "0" (toString text);
  # Settings of the modules for the directory: by systemd, or by tmpfiles.d.
  byUnits =
    config: path:
    lib.concatLists (
      lib.mapAttrsToList (
        name: service:
        let
          it = service.serviceConfig;
          isDynamic = lib.elem (it.DynamicUser or false) [
            true
            "true"
            "yes"
          ];
          base = if isDynamic then "/var/lib/private/" else "/var/lib/";
          user = if isDynamic then "root" else toString (it.User or "root");
          group =
            if isDynamic then "root" else toString (it.Group or (config.users.users.${user}.group or "root"));
        in
        lib.optional
          (lib.any (word: "${base}${lib.head (lib.splitString ":" word)}" == path) (
            words (it.StateDirectory or [ ])
          ))
          {
            by = "${name}.service";
            owner = "${user}:${group}";
            mode = mode (it.StateDirectoryMode or "0755");
          }
      ) (lib.filterAttrs (_: service: service.enable) config.systemd.services)
    );
  bySettings =
    config: path:
    lib.concatMap (
      settings:
      lib.mapAttrsToList (_: it: {
        by = "tmpfiles.d";
        owner = "${if it.user == "-" then "root" else lib.removePrefix ":" it.user}:${
          if it.group == "-" then "root" else lib.removePrefix ":" it.group
        }";
        mode = mode (
          if
            lib.elem it.mode [
              "-"
              ""
            ]
          then
            "0755"
          else
            lib.removePrefix ":" (lib.removePrefix "~" it.mode)
        );
      }) (lib.filterAttrs (type: _: lib.hasPrefix "d" type) (settings.${path} or { }))
    ) (lib.attrValues config.systemd.tmpfiles.settings);

  of =
    path: row:
    let
      config = on row;
      mine = {
        owner = "${row.user or "root"}:${row.group or "root"}";
        mode = mode (row.mode or "0755");
      };
      others = byUnits config path ++ bySettings config path;
      unknown =
        lib.optional (row ? user && !config.users.users ? ${row.user}) "there is no user ${row.user}"
        ++ lib.optional (
          row ? group && !config.users.groups ? ${row.group}
        ) "there is no group ${row.group}";
    in
    map (text: "${path}: ${text}") unknown
    # One creator of the path with the same owner and mode suffices.
    ++
      lib.optional
        (others != [ ] && !lib.elem path own && !lib.any (it: removeAttrs it [ "by" ] == mine) others)
        "${path}: ${mine.owner} ${mine.mode} in the table, ${
          lib.concatMapStringsSep ", " (it: "${it.owner} ${it.mode} by ${it.by}") others
        }";
in
if paths == null then
  {
    paths = lib.attrNames rows;
    problems = lib.concatLists (
      lib.mapAttrsToList (path: row: map (text: "${path}: there is no option ${text}") (missing row)) rows
    );
  }
else
  # One line each, printed at once: some services end the evaluation.
  lib.foldl' (
    _: path: builtins.trace (builtins.toJSON { ${path} = of path rows.${path}; }) null
  ) null paths
