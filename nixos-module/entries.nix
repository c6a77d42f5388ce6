# The interfaces and the presets, written into the manifest: entries, and directories whose owners are known.
{ config, lib, ... }:
let
  inherit (config.users) users;
  paths = import ./paths.nix;

  # The primary group of a user, the default in the NixOS module; home-manager does not know the group.
  inherit (import ./accounts.nix { inherit config lib; }) groupOf;

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

  # `auto` for other values: an assertion refuses them.
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
  ofHomes = lib.concatMap (user: enabled (user.home.persistence or { })) (
    lib.attrValues (config.home-manager.users or { })
  );
  all = system ++ ofUsers ++ ofHomes;

  rows =
    stores:
    map directory (lib.concatMap (it: it.directories) stores)
    ++ map file (lib.concatMap (it: it.files) stores);
  named = rows all;
  # A preset's entry yields to a written entry and to a file system at the same path. Only mountPoint, fsType and device of
  # `fileSystems` may be read here: neededForBoot, and through neededForBoot the options, depend on the entries.
  inherit (config.imp-mount) presets;
  keptBy =
    entries:
    (import ./audit/kept.nix { inherit lib; }).kept {
      inherit entries;
      stores = lib.optional presets.enable presets.store;
      fileSystems = lib.attrValues config.fileSystems;
      links = lib.optionalAttrs linksAreKnown (import ./audit/links.nix { inherit config lib; });
    };
  # The links depend on the entries where a tmpfs is `neededForBoot` because of an entry on the tmpfs, and where an immutable /etc
  # has mount points of entries.
  linksAreKnown =
    presets.enable
    && !(config.system.etc.overlay.enable && !config.system.etc.overlay.mutable)
    && !lib.any (fs: fs.mountPoint != "/" && fs.fsType == "tmpfs") (lib.attrValues config.fileSystems);
  directories =
    let
      is = keptBy named;
    in
    lib.filter (entry: !is.directory entry.target) presets.directories;
  # A directory of one preset may contain a file of another preset.
  added =
    let
      is = keptBy (named ++ directories);
    in
    directories ++ lib.filter (entry: !is.file entry.target) presets.files;
  entries = lib.filter (entry: !(config.imp-mount.vm.hasNix && entry.target == "/nix")) (
    named ++ added
  );

  # An absent key has its default.
  said = lib.filterAttrs (_: value: value != null && value != [ ]);
  unless = default: value: if value == default then null else value;
  attributes =
    it:
    said {
      user = unless "root" it.user;
      group = unless "root" it.group;
      mode = unless "0755" it.mode;
    };

  # An entry of the manifest.
  line =
    it:
    said {
      ${it.kind} = it.target;
      inherit (it)
        store
        options
        missing
        phase
        required
        from
        ;
      parents = unless { } (attributes (parentsOf it));
      method = unless "bind" it.method;
      enforce = unless false it.enforce;
      hidden = unless false it.hidden;
      trash = unless false it.trash;
    }
    // (
      if it.kind == "directory" then
        attributes (ofHome it)
      else
        attributes it // said { inherit (it) mode; }
    );

  # Directories between a user's home and an entry belong to the user.
  parentsOf =
    it:
    let
      homesAbove = lib.filter (at: homes ? ${at}) (paths.ancestors it.target);
      home = homes.${lib.last homesAbove};
    in
    if
      homesAbove != [ ] && it.user == home.user && it.user != "root" && attributes it.parents == { }
    then
      {
        inherit (home) user group;
        mode = "0755";
      }
    else
      it.parents;

  # An entry for a whole home: owner and mode are the home's, unless set.
  ofHome =
    it:
    let
      home = homes.${it.target} or { };
    in
    if
      home == { }
      || it.mode != "0755"
      || !lib.elem it.user [
        "root"
        home.user
      ]
    then
      it
    else
      it
      // {
        inherit (home) mode;
      }
      // lib.optionalAttrs (it.user == "root") { inherit (home) user group; };

  # Existing homes by path: owner and mode are known.
  homes =
    let
      # The home of a service's user may be a package; a manifest cannot name such a path.
      isPath = home: builtins.isString home && !builtins.hasContext home;
      named = lib.genAttrs (lib.filter isPath (map (it: it.home) entries)) (_: true);
      isHome =
        user: (user.enable or true) && isPath user.home && (user.createHome || named ? ${user.home});
      home = name: user: {
        directory = paths.join [ user.home ];
        user = user.name;
        inherit (user) group;
        mode = user.homeMode;
        from = "users.users.${name}";
      };
    in
    # Of users with the same home, the first.
    lib.mapAttrs (_: lib.head) (
      lib.groupBy (it: it.directory) (lib.mapAttrsToList home (lib.filterAttrs (_: isHome) users))
    );
  # Homes above an entry or equal to one.
  homesOfEntries =
    let
      above = lib.genAttrs (lib.concatMap (
        it: [ it.target ] ++ paths.ancestors it.target
      ) config.imp-mount.entries) (_: true);
    in
    lib.attrValues (builtins.intersectAttrs above homes);

  # Directories of files, where `parentDirectory` says more of them than of those above.
  folders =
    let
      special = lib.filter (
        it:
        it ? parentDirectory
        && removeAttrs it.parentDirectory [ "directory" ] != it.parents
        && it.parentDirectory.directory != "/"
        && !homes ? ${it.parentDirectory.directory}
      ) entries;
      folder = it: it.parentDirectory // { inherit (it) from; };
      same = it: removeAttrs it [ "from" ];
    in
    lib.foldl' (
      all: it: if lib.any (other: same other == same it) all then all else all ++ [ it ]
    ) [ ] (map folder special);
in
{
  imp-mount.settings = {
    entries = map line entries;
    parents = map (it: attributes it // { inherit (it) directory from; }) (homesOfEntries ++ folders);
  };
}
