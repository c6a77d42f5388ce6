# The configuration as the manifest that impctl compiles: see manifest(5).
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  cfg = config.imp-mount;
  inherit (config.users) users groups;
  paths = import ./paths.nix;

  # Only what is said: an absent key has its default.
  said = lib.filterAttrs (_: value: value != null && value != [ ]);
  unless = default: value: if value == default then null else value;

  owner =
    it:
    said {
      user = unless "root" it.user;
      group = unless "root" it.group;
      mode = unless "0755" it.mode;
    };

  entry =
    it:
    said {
      ${it.kind} = it.target;
      inherit (it)
        store
        options
        missing
        phase
        from
        ;
      parents = unless { } (owner it.parents);
      method = unless "bind" it.method;
      required = unless true it.required;
      enforce = unless false it.enforce;
      hidden = unless false it.hidden;
      trash = unless false it.trash;
    }
    // (if it.kind == "directory" then owner (ofHome it) else owner it // said { inherit (it) mode; });

  # A home that persists as a whole: its owner and mode are the home's, unless others are said.
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

  # Homes that lie above an entry, or are one: their owner and mode are known.
  homes =
    let
      needed = lib.genAttrs (lib.concatMap (it: [ it.target ] ++ paths.ancestors it.target) cfg.entries) (
        _: true
      );
      named = lib.genAttrs (lib.filter (home: home != null) (map (it: it.home) cfg.entries)) (_: true);
      # The home of a service's user may be its package, which is no path that a manifest names.
      isPath = home: builtins.isString home && !builtins.hasContext home;
      isHome =
        user:
        (user.enable or true)
        && isPath user.home
        && (user.createHome || named ? ${user.home})
        && needed ? ${paths.join [ user.home ]};
      home = name: user: {
        directory = paths.join [ user.home ];
        user = name;
        inherit (user) group;
        mode = user.homeMode;
        from = "users.users.${name}";
      };
      # Of users that share a home, the first.
      byPath = lib.groupBy (it: it.directory) (
        lib.mapAttrsToList home (lib.filterAttrs (_: isHome) users)
      );
    in
    lib.mapAttrs (_: lib.head) byPath;

  # Directories of files, where `parentDirectory` says more of them than of those above.
  folders =
    let
      special = lib.filter (
        it:
        it ? parentDirectory
        && removeAttrs it.parentDirectory [ "directory" ] != it.parents
        && it.parentDirectory.directory != "/"
        && !homes ? ${it.parentDirectory.directory}
      ) cfg.entries;
      line = it: it.parentDirectory // { inherit (it) from; };
      same = it: removeAttrs it [ "from" ];
    in
    lib.foldl' (
      lines: it: if lib.any (other: same other == same it) lines then lines else lines ++ [ it ]
    ) [ ] (map line special);

  # The ids of those that something is created for, as far as they are known without an allocator.
  ids =
    let
      owners = cfg.entries ++ map (it: it.parents) cfg.entries ++ lib.attrValues homes ++ folders;
      known =
        declared: id: names:
        said (lib.genAttrs (lib.filter (name: declared ? ${name}) names) (name: declared.${name}.${id}));
      names =
        key: lib.unique (lib.filter (name: name != null && name != "root") (map (it: it.${key}) owners));
    in
    {
      users = known users "uid" (names "user");
      groups = known groups "gid" (names "group");
    };

  root = if cfg.root == null then { } else said cfg.root;
  old = cfg.oldRoots;
in
{
  imp-mount.manifest = said {
    version = 1;
    root =
      if cfg.convert != null then
        root // { inherit (cfg) convert; }
      else if cfg.plan.buildsRoot then
        root
      else
        null;
    old_roots =
      if old.enable then
        said {
          inherit (old)
            store
            boots
            days
            size
            ;
          save_size = old.saveSize;
          save_seconds = old.saveSeconds;
        }
      else
        null;
    stores = map (
      store:
      said {
        inherit (store) path from;
        required = unless true store.required;
      }
    ) cfg.plan.stores;
    parents = map (it: owner it // { inherit (it) directory from; }) (lib.attrValues homes ++ folders);
    entries = map entry cfg.entries;
    inherit ids;
    layout = {
      filesystems = map (it: {
        path = it.mountPoint;
        fstype = it.fsType;
        in-initrd = utils.fsNeededForBoot it;
      }) (lib.attrValues config.fileSystems);
      etc-overlay = config.system.etc.overlay.enable;
    };
  };

  imp-mount.compiled =
    pkgs.runCommand "imp-mount-manifest"
      {
        json = builtins.toJSON cfg.manifest;
        passAsFile = [ "json" ];
        nativeBuildInputs = [ (import ./tool.nix { inherit pkgs cfg; }) ];
      }
      ''
        impctl compile "$jsonPath" -o "$out"
      '';
}
