# The units and settings needed by the configuration.
#
# impctl decides how an entry is mounted. This file only finds out whether a unit has an entry: an unneeded unit is
# harmless.
{
  config,
  lib,
  options,
  utils,
  ...
}:
let
  cfg = config.imp-mount;
  paths = import ./paths.nix;
  initrd = config.boot.initrd;

  # The stores of the system and of home-manager's users.
  named =
    lib.attrValues config.environment.persistence
    ++ lib.concatMap (user: lib.attrValues (user.home.persistence or { })) (
      lib.attrValues (config.home-manager.users or { })
    );

  # Every store with an entry is in the manifest, once; a named store is optional if no definition requires it; a store named only by
  # an entry is required.
  required =
    path:
    let
      at = lib.filter (store: paths.join [ store.persistentStoragePath ] == path) named;
    in
    at == [ ] || lib.any (store: !store.enable || store.required) at;
  from = path: (lib.findFirst (it: it.store == path) { from = others.${path}; } cfg.entries).from;

  # Stores without an entry, with the options that name them.
  others =
    lib.optionalAttrs (cfg.oldRoots.enable && cfg.oldRoots.store != null) {
      ${cfg.oldRoots.store} = "imp-mount.oldRoots.store";
    }
    // lib.optionalAttrs cfg.plan.onStore { ${cfg.root.on} = "imp-mount.root.on"; }
    // lib.optionalAttrs (cfg.convert != null) { ${cfg.convert} = "imp-mount.convert"; };

  # File systems mounted by the running system above an entry.
  later = lib.filter (
    it: !utils.fsNeededForBoot it && lib.any (entry: paths.isIn it.mountPoint entry.target) cfg.entries
  ) (lib.attrValues config.fileSystems);

  wants = phase: lib.any (it: it.phase == phase) cfg.entries;
in
{
  options.imp-mount.plan = lib.mkOption {
    type = lib.types.raw;
    readOnly = true;
    internal = true;
    description = "The parts needed by the configuration.";
  };
  # Required is the default.
  config.imp-mount.settings.stores =
    map
      (
        path:
        {
          inherit path;
          from = from path;
        }
        // lib.optionalAttrs (!required path) { required = false; }
      )
      (
        lib.unique (
          lib.filter lib.isString (lib.catAttrs "store" cfg.settings.entries) ++ lib.attrNames others
        )
      );

  config.imp-mount.plan = {
    inherit later;
    stores = map (
      it:
      {
        required = true;
      }
      // it
    ) (lib.filter (it: lib.isString (it.path or null)) cfg.settings.stores);
    # Depends on the names of the stores only: services and the initrd depend on this value, and may name an entry's path. For a
    # store named only by an entry, an assertion gives the remedy.
    storePaths = lib.unique (
      map (path: paths.join [ path ]) (
        map (store: store.persistentStoragePath) (lib.filter (store: store.enable) named)
        ++ lib.optional cfg.presets.enable cfg.presets.store
        ++ lib.attrNames others
      )
    );
    # True if the root is in memory, or a directory of a store made at every boot.
    isTmpfs =
      cfg.plan.buildsRoot
      || lib.any (
        fs:
        fs.mountPoint == "/"
        && lib.elem fs.fsType [
          "tmpfs"
          "ramfs"
        ]
      ) (lib.attrValues config.fileSystems);
    # True if files without an entry are gone at the next boot.
    isEmptied = cfg.plan.isTmpfs || cfg.convert != null;
    # True if the root is a directory of a store.
    onStore = cfg.root != null && cfg.root.on != null;
    # The root's options in fstab(5).
    rootOptions =
      let
        said = key: value: lib.optional (value != null) "${key}=${value}";
      in
      if cfg.root == null then
        [ "mode=0755" ]
      else
        said "mode" cfg.root.mode
        ++ said "size" cfg.root.size
        ++ said "nr_inodes" cfg.root.inodes
        ++ cfg.root.options;
    # True if a store is named, or a preset. The interfaces alone turn the module on.
    isNamed = cfg.presets.enable || lib.any (store: store.enable) named;
    # True if the configuration asks for a root. A configuration with stores only has its own root. The switch
    # comes last: it depends on the stores, these on users where a condition says so, and users on the types of file systems.
    makesRoot =
      (cfg.root != null || options.imp-mount.enable.highestPrio < (lib.mkOptionDefault null).priority)
      && cfg.enable;
    # True if the root is a tmpfs or a directory of a store, and not in fileSystems.
    buildsRoot =
      cfg.convert == null
      && initrd.enable
      && initrd.systemd.enable
      && initrd.systemd.root == null
      && cfg.plan.makesRoot;
    early =
      cfg.convert != null
      || cfg.plan.buildsRoot
      || wants "early"
      || lib.any (it: it.target == "/nix") cfg.entries;
    live = !initrd.enable || wants "live" || later != [ ];
  };
}
