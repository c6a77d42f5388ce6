# Everything that persists, from every store, user and home, as one list in one form.
{ config, lib, ... }:
let
  inherit (config.users) users;
  paths = import ./paths.nix;

  # The group of a user, where nothing else is said; home-manager does not know it.
  groupOf = user: users.${user}.group or null;

  common = entry: {
    inherit (entry)
      required
      enforce
      phase
      from
      ;
    store = paths.join [ entry.persistentStoragePath ];
    options = entry.mountOptions;
    hidden = entry.hideMount;
    trash = entry.allowTrash;
  };
  owner = it: {
    inherit (it) user mode;
    group = if it.group == null then groupOf it.user else it.group;
  };

  directory =
    entry:
    common entry
    // owner entry
    // {
      target = entry.dirPath;
      kind = "directory";
      parents = owner entry.defaultPerms;
      inherit (entry) home;
      method = method entry.method;
      missing = null;
    };

  file =
    entry:
    common entry
    // {
      target = entry.filePath;
      kind = "file";
      user = if entry.user == null then "root" else entry.user;
      group =
        if entry.group != null then
          entry.group
        else if entry.user == null then
          "root"
        else
          groupOf entry.user;
      inherit (entry) mode home;
      parents = owner entry.parentDirectory.defaultPerms;
      parentDirectory = owner entry.parentDirectory // {
        directory = entry.parentDirectory.dirPath;
      };
      method = method entry.method;
      missing =
        if entry.missing == null && entry.filePath == "/etc/machine-id" then
          "machine-id"
        else
          entry.missing;
    };

  # `auto`, whatever is neither here nor there, and what an assertion is about: the usual one.
  method =
    method:
    if
      lib.elem method [
        "symlink"
        "copy"
      ]
    then
      method
    else
      "bind";

  enabled = stores: lib.filter (store: store.enable) (lib.attrValues stores);
  system = enabled config.environment.persistence;
  ofUsers = lib.concatMap (store: lib.attrValues store.users) system;
  homes = lib.concatMap (user: enabled (user.home.persistence or { })) (
    lib.attrValues (config.home-manager.users or { })
  );
  all = system ++ ofUsers ++ homes;

  rows =
    stores:
    map directory (lib.concatMap (it: it.directories) stores)
    ++ map file (lib.concatMap (it: it.files) stores);
  said = rows all;
  # A preset's entry yields to one that is written, and to a disk that is mounted there anyway. Of `fileSystems` only mountPoint,
  # fsType and device may be read here: neededForBoot, and through it the options, depend on the entries.
  inherit (config.imp-mount) presets;
  keptBy =
    entries:
    (import ./audit/kept.nix { inherit lib; }).kept {
      inherit entries;
      stores = lib.optional presets.enable presets.persistentStoragePath;
      fileSystems = lib.attrValues config.fileSystems;
      links = lib.optionalAttrs linksAreKnown (import ./audit/links.nix { inherit config lib; });
    };
  # Which links there are depends on the entries where a tmpfs is `neededForBoot` because an entry lies on it, and where an immutable
  # /etc has places for them.
  linksAreKnown =
    presets.enable
    && !(config.system.etc.overlay.enable && !config.system.etc.overlay.mutable)
    && !lib.any (fs: fs.mountPoint != "/" && fs.fsType == "tmpfs") (lib.attrValues config.fileSystems);
  preset = lib.groupBy (entry: entry.kind) (rows (lib.optional presets.enable presets));
  directories =
    let
      is = keptBy said;
    in
    lib.filter (entry: !is.directory entry.target) (preset.directory or [ ]);
  # One preset may keep what another one names a file in.
  added =
    let
      is = keptBy (said ++ directories);
    in
    directories ++ lib.filter (entry: !is.file entry.target) (preset.file or [ ]);
in
{
  imp-mount.entries = lib.filter (entry: !(config.imp-mount.vm.hasNix && entry.target == "/nix")) (
    said ++ added
  );
}
