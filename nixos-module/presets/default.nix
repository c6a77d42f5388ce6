# `imp-mount.persist`: whole groups of paths, with their owners and modes, in one line each.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.imp-mount.persist;
  state = import ./groups.nix { inherit config lib; };
  paths = import ../paths.nix;

  preset =
    text:
    mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Persist ${lib.trim text}

        Definitions in `environment.persistence`, and file systems of their own, take precedence.
      '';
    };

  groups = lib.filter (group: cfg.${group}) (lib.attrNames state);
  rows = lib.concatMap (
    group: map (row: row // { from = "imp-mount.persist.${group}"; }) state.${group}
  ) groups;
  # Two services may share a directory.
  unique =
    key: rows:
    map lib.head (lib.attrValues (lib.groupBy (row: row.${key}) (lib.filter (row: row ? ${key}) rows)));
  attributes = user: group: mode: { inherit user group mode; };
  root = attributes "root" "root" "0755";

  # In the form of entries.nix.
  common = row: {
    inherit (row) from;
    inherit store;
    user = row.user or "root";
    group = row.group or "root";
    options = row.mountOptions or [ ];
    missing = null;
    phase = null;
    required = null;
    enforce = false;
    hidden = false;
    trash = false;
  };
  directory =
    row:
    common row
    // {
      target = row.directory;
      kind = "directory";
      mode = row.mode or "0755";
      parents = root;
      home = null;
      method = "bind";
    };
  # Parent directories of a file in a home belong to the home's owner, with mode 0700.
  file =
    row:
    let
      target = paths.join [ row.file ];
      above = if row ? home then attributes row.user row.group "0700" else root;
    in
    common row
    // {
      inherit target;
      kind = "file";
      mode = row.mode or null;
      parents = above;
      parentDirectory = above // {
        directory = dirOf target;
      };
      home = row.home or null;
      method = row.method or "bind";
      ${if target == "/etc/machine-id" then "missing" else null} = "machine-id";
    };

  # Without a store an assertion fails.
  store = if cfg.store == null then "/persist" else cfg.store;
  # Reads the names of the stores, not their entries.
  stores = lib.unique (
    map (store: store.persistentStoragePath) (
      lib.filter (store: store.enable) (lib.attrValues config.environment.persistence)
    )
  );
in
{
  options.imp-mount = {
    persist = {
      store = mkOption {
        type = types.nullOr types.path;
        default =
          if config.imp-mount.convert != null then
            config.imp-mount.convert
          else if lib.length stores == 1 then
            lib.head stores
          else
            null;
        apply = path: if path == null then null else paths.join [ path ];
        defaultText = lib.literalMD "`imp-mount.convert`, or the only store of `environment.persistence`";
        example = "/persist";
        description = "The store for the paths of `imp-mount.persist`.";
      };
      essentials = preset ''
        the identity of this machine: the ids of users and groups, the machine id, SSH host keys, keys of secrets,
        /var/lib/systemd, known networks and devices.
      '';
      logs = preset "/var/log, and core dumps.";
      services = preset ''
        the state of services known to imp-mount. `imp-mount.audit` names the rest.
      '';
      homes = preset "the homes of all normal users.";
      containers = preset "images, containers, volumes and virtual machines, and sources of mounts in OCI containers.";
    };

    presets = mkOption {
      type = types.raw;
      readOnly = true;
      internal = true;
      description = "Paths of the groups in `imp-mount.persist`: `{ enable, store, directories, files }`.";
    };
  };

  config = {
    imp-mount.presets = {
      # Not the computed entries: they depend on `fileSystems`, where the root depends on this value.
      enable = groups != [ ];
      inherit store;
      directories = map directory (unique "directory" rows);
      files = map file (unique "file" rows);
    };

    assertions = [
      {
        assertion = groups != [ ] -> cfg.store != null;
        message = "imp-mount.persist: which store shall hold it? ${
          if stores == [ ] then "There is none" else "There are ${lib.concatStringsSep ", " stores}"
        }: set imp-mount.persist.store.";
      }
    ];
  };
}
