# Refusals and warnings of the evaluation. impctl refuses faults of the manifest alone when it compiles the manifest.
{
  config,
  lib,
  ...
}:
let
  cfg = config.imp-mount;
  inherit (cfg) entries;
  inherit (config.users) users groups;
  paths = import ./paths.nix;

  system = lib.filter (store: store.enable) (lib.attrValues config.environment.persistence);
  homes = lib.concatMap (
    user: lib.filter (store: store.enable) (lib.attrValues (user.home.persistence or { }))
  ) (lib.attrValues (config.home-manager.users or { }));
  levels = system ++ lib.concatMap (store: lib.attrValues store.users) system ++ homes;
  forwarded = lib.concatMap (
    level: level.assertions ++ lib.concatMap (it: it.assertions) (level.directories ++ level.files)
  ) levels;

  fileSystems = lib.attrValues config.fileSystems;
  at = path: lib.findFirst (fs: fs.mountPoint == path) null fileSystems;
  root = at "/";

  inherit (cfg.plan) isEmptied;
  hasNix =
    at "/nix" != null
    || at "/nix/store" != null
    || lib.any (it: it.target == "/nix" && it.kind == "directory") entries;

  disabled = map (name: "environment.persistence.\"${name}\"") (
    lib.attrNames (lib.filterAttrs (_: store: !store.enable) config.environment.persistence)
  );

  old = cfg.oldRoots;
  # File systems at or above the path of the converted disk.
  overConverted = lib.filter (
    fs:
    fs.mountPoint != "/" && cfg.convert != null && paths.isIn (paths.join [ fs.mountPoint ]) cfg.convert
  ) fileSystems;

  # Paths named twice, with every place of their definition.
  twice =
    lib.mapAttrsToList
      (path: all: ''
        ${path}
              ${lib.concatMapStringsSep "\n      " (it: "from ${it.from}") all}'')
      (lib.filterAttrs (_: all: lib.length all > 1) (lib.groupBy (it: it.target) entries));

  # Users without a declaration, with the places of their paths.
  strangersOf =
    place: stores:
    lib.concatLists (
      lib.mapAttrsToList (
        path: store:
        map (name: "${name} (${place}.\"${path}\".users.${name})") (
          lib.filter (name: !users ? ${store.users.${name}.username or name}) (lib.attrNames store.users)
        )
      ) stores
    );
  strangers =
    strangersOf "environment.persistence" (
      lib.filterAttrs (_: store: store.enable) config.environment.persistence
    )
    ++ lib.optionals config.preservation.enable (
      strangersOf "preservation.preserveAt" config.preservation.preserveAt
    );

  immutable = config.system.etc.overlay.enable && !config.system.etc.overlay.mutable;
  patterns = lib.filter (
    it:
    it.kind == "file" && lib.hasPrefix "/etc/" it.target && builtins.match ".*[*?[].*" it.target != null
  ) entries;

  # fileSystems of these types need the network, which starts after all units that mount entries.
  isNetwork =
    fs:
    lib.elem "_netdev" fs.options
    || lib.elem fs.fsType [
      "nfs"
      "nfs4"
      "cifs"
      "smb3"
      "ceph"
      "fuse.sshfs"
      "fuse.glusterfs"
      "glusterfs"
      "9p"
    ];

  onNetwork = lib.concatMap (fs: lib.filter (it: paths.isIn fs.mountPoint it.target) entries) (
    lib.filter isNetwork cfg.plan.later
  );

  # Paths and file systems that outlive a boot.
  keeps = (import ./audit/kept.nix { inherit lib; }).kept {
    inherit entries fileSystems;
    links = import ./audit/links.nix { inherit config lib; };
  };
  swapFiles = lib.filter (
    path: lib.hasPrefix "/" path && !paths.isIn "/dev" path && !keeps.file (paths.join [ path ])
  ) (map (swap: swap.device) config.swapDevices);

  # Files of environment.etc below a mounted directory: the mount would hide them, because it lies over the overlay of
  # /etc.
  hidden =
    let
      names = lib.attrNames (lib.filterAttrs (_: it: it.enable) config.environment.etc);
      below =
        it:
        lib.filter (
          name: lib.hasPrefix "${it.target}/" "/etc/${name}" && baseNameOf name != ".imp-mount"
        ) names;
      isNamed = name: lib.any (it: it.kind == "file" && it.target == "/etc/${name}") entries;
      of = it: lib.filter (name: !isNamed name) (below it);
    in
    lib.filter (it: it.names != [ ]) (
      map (it: it // { names = of it; }) (
        lib.filter (it: it.kind == "directory" && lib.hasPrefix "/etc/" it.target) entries
      )
    );
  some =
    names:
    lib.concatStringsSep ", " (map (name: "/etc/${name}") (lib.take 3 names))
    + lib.optionalString (lib.length names > 3) " and ${toString (lib.length names - 3)} more";

  assertions =
    forwarded
    ++ [
      {
        assertion = cfg.root == null || cfg.convert != null || config.boot.initrd.enable;
        message = ''
          imp-mount.root:
              The initrd makes the root, and there is none: boot.initrd.enable = true. A container has the root of its host: remove
              imp-mount.root.
        '';
      }
      {
        assertion = twice == [ ];
        message = ''
          environment.persistence:
              The following paths were specified two or more
              times. Keep one of each:
                ${lib.concatStringsSep "\n      " twice}
        '';
      }
      {
        assertion = strangers == [ ];
        message = ''
          environment.persistence:
              The following users have paths that persist, but are not in users.users, so where their homes are is not
              known. Declare them there, or correct the names:
                ${lib.concatStringsSep "\n      " strangers}
        '';
      }
      {
        assertion =
          cfg.root == null
          || cfg.plan.onStore
          || cfg.convert != null
          || root == null
          || (root.fsType == "tmpfs" && lib.subtractLists root.options cfg.plan.rootOptions == [ ]);
        message = ''
          imp-mount.root:
              It says what the root is, and fileSystems."/" says something else: ${root.fsType} (${toString root.device}).

              Remove one of the two, or let the disk become the store: imp-mount.convert = "/persist".
        '';
      }
      {
        assertion = !immutable || patterns == [ ];
        message = ''
          environment.persistence:
              An immutable /etc has no place to mount the matches of a pattern at. Name the files one by one:
                ${lib.concatMapStringsSep "\n      " (it: "${it.target} (${it.from})") patterns}
        '';
      }
      {
        assertion = !isEmptied || swapFiles == [ ];
        message = ''
          imp-mount: swapDevices:
              The root is emptied at every boot, and a swap file on it would ${
                if cfg.plan.onStore then "be gone" else "lie in memory, where it cannot be used"
              }. Put it on a store:
                ${lib.concatMapStringsSep "\n      " (
                  path: "${path} -> ${(lib.head (cfg.plan.stores ++ [ { path = "/persist"; } ])).path}${path}"
                ) swapFiles}
        '';
      }
      {
        assertion = !config.system.etc.overlay.enable || hidden == [ ];
        message = ''
          environment.persistence:
              These directories are mounted over the overlay on /etc, and would hide what the configuration has there. Name the
              files in them that persist one by one:
                ${lib.concatMapStringsSep "\n      " (
                  it: "${it.target} (${it.from}) hides ${some it.names}"
                ) hidden}
        '';
      }
      {
        assertion = onNetwork == [ ];
        message = ''
          environment.persistence:
              These lie on file systems that come with the network, later than anything that persists can be mounted on them.
              Take them out here, and name them in fileSystems, as bind mounts:
                ${lib.concatMapStringsSep "\n      " (it: "${it.target} (${it.from})") onNetwork}
        '';
      }
    ]
    ++ lib.optionals cfg.plan.onStore [
      {
        assertion = cfg.root.size == null && cfg.root.inodes == null;
        message = ''
          imp-mount.root:
              `size` and `inodes` are those of a tmpfs. With on = "${cfg.root.on}" the root is a directory of that store, and has its
              space. Take them out, or take `on` out.
        '';
      }
      {
        assertion = cfg.convert != null || root == null;
        message = ''
          imp-mount.root.on:
              The root is a directory of ${cfg.root.on}, and fileSystems."/" says something else: ${root.fsType} (${toString root.device}).

              Remove fileSystems."/"${
                lib.optionalString (
                  root.fsType != "tmpfs"
                ) ", or let the disk become the store: imp-mount.convert = \"${cfg.root.on}\""
              }.
        '';
      }
      {
        assertion = cfg.convert != null || cfg.plan.buildsRoot;
        message = ''
          imp-mount.root.on:
              Only the systemd initrd can make a root on a store, and only where it looks for none itself:
                boot.initrd.systemd.enable = true;
                boot.initrd.systemd.root = null;      # as it is where nothing is said
        '';
      }
    ]
    ++ lib.optionals old.enable [
      {
        assertion = cfg.plan.stores != [ ];
        message = ''
          imp-mount.oldRoots:
              There is no store to keep them on. Name what persists in environment.persistence, or
                imp-mount.oldRoots.store = "/persist";
        '';
      }
      {
        assertion = cfg.plan.onStore || old.store != null || lib.length cfg.plan.stores < 2;
        message = ''
          imp-mount.oldRoots:
              There are several stores. Say which of them keeps old roots:
                ${lib.concatMapStringsSep "\n      " (
                  store: "imp-mount.oldRoots.store = \"${store.path}\";"
                ) cfg.plan.stores}
        '';
      }
      {
        assertion = isEmptied || root == null || root.fsType == "overlay";
        message = ''
          imp-mount.oldRoots:
              The root is a disk that imp-mount does not empty: ${root.fsType} (${toString root.device}). Old roots are kept of a
              tmpfs, or of a root on a store: remove fileSystems."/", and set imp-mount.root.on to the path of a store.
        '';
      }
    ]
    # A container's Nix store comes from its host.
    ++ lib.optional (cfg.convert == null && config.boot.initrd.enable && isEmptied) {
      assertion = hasNix;
      message = ''
        environment.persistence:
            The root is ${
              if cfg.plan.onStore then "new at every boot" else "a tmpfs"
            }, and the Nix store would be on it: gone at the next boot, with every generation. Put it on a
            file system of its own, fileSystems."/nix", or let it persist:
              environment.persistence."${
                (lib.head (cfg.plan.stores ++ [ { path = "/persist"; } ])).path
              }".directories = [ "/nix" ];${
                lib.optionalString (disabled != [ ]) "\n    Disabled: ${toString disabled}."
              }
      '';
    }
    ++ lib.optionals (cfg.convert != null) [
      {
        assertion = overConverted == [ ];
        message = ''
          imp-mount.convert:
              The disk that is the root becomes the store at ${cfg.convert}, and something else is mounted there:
                ${lib.concatMapStringsSep "\n      " (
                  fs: "fileSystems.\"${fs.mountPoint}\" (${toString fs.device})"
                ) overConverted}

              Remove it, or name another path in imp-mount.convert. Where that disk is the store already, remove imp-mount.convert.
        '';
      }
      {
        assertion = root != null && !cfg.plan.isTmpfs;
        message = ''
          imp-mount.convert:
              There is no disk to convert: fileSystems."/" is ${
                if root == null then "not there" else "a ${root.fsType}"
              }. It has to name the disk that is the root today.
        '';
      }
      {
        assertion = config.boot.initrd.enable && config.boot.initrd.systemd.enable;
        message = "imp-mount.convert: only the systemd initrd can convert a root: boot.initrd.systemd.enable = true.";
      }
      {
        assertion = hasNix;
        message = ''
          imp-mount.convert:
              The Nix store is on the disk that is converted, so it has to persist:
                environment.persistence."${cfg.convert}".directories = [ "/nix" ];
        '';
      }
      {
        assertion =
          at "/boot" != null
          || !(config.boot.loader.grub.enable || config.boot.loader.generic-extlinux-compatible.enable);
        message = ''
          imp-mount.convert:
              GRUB and U-Boot look for /boot on the disk, and it would be written to memory. Put it on a file system of its own,
              or use systemd-boot.
        '';
      }
    ];

  unfixed = id: declared: lib.attrNames (lib.filterAttrs (_: it: it.${id} == null) declared);
  usersWithoutUid = unfixed "uid" users;
  groupsWithoutGid = unfixed "gid" groups;
  # userborn takes ids from the passwd(5) and group(5) that are there.
  inherit (config.services) userborn;
  idsAt = if userborn.enable then userborn.passwordFilesLocation or "/etc" else "/var/lib/nixos";
  idsPersist = userborn.static or false || keeps.directory (paths.join [ idsAt ]);

  # Entries that fileSystems also mounts from their store: nixos-generate-config writes such lines on a running system.
  isDouble =
    it:
    lib.any (
      fs:
      paths.join [ fs.mountPoint ] == it.target
      &&
        fs.device == paths.join [
          it.store
          it.target
        ]
    ) fileSystems;
  doubles = lib.filter isDouble entries;

  # Paths kept by the file system below them, without an entry.
  elsewhere =
    let
      is = (import ./audit/kept.nix { inherit lib; }).kept {
        entries = [ ];
        inherit fileSystems;
      };
      # The nearest one.
      above =
        target:
        lib.last (
          lib.sort (one: other: one.mountPoint < other.mountPoint) (
            lib.filter (fs: paths.isIn (paths.join [ fs.mountPoint ]) target) fileSystems
          )
        );
    in
    lib.groupBy (
      it:
      let
        fs = above it.target;
      in
      "${fs.mountPoint} (${fs.fsType})"
    ) (lib.filter (it: is.directory it.target && !isDouble it) entries);

  # Containers inherit `nosuid` and `nodev` from the mount of their root.
  known = import ./known.nix;
  restricted = lib.filter (
    it:
    it.kind == "directory"
    && known.state.${it.target}.options or [ ] != [ ]
    && lib.subtractLists it.options known.state.${it.target}.options != [ ]
    && !lib.elem "nosuid" it.options
  ) entries;

  # NixOS replaces these files by new ones, which is no use on a mount.
  replaced = lib.filter (
    it: it.kind == "file" && it.method == "bind" && lib.elem it.target known.activated
  ) entries;
  # The link of environment.etc cannot be where a file is mounted. An immutable /etc has a placeholder of the same name.
  declared = lib.filter (
    it:
    it.kind == "file"
    && lib.hasPrefix "/etc/" it.target
    && config.environment.etc.${lib.removePrefix "/etc/" it.target}.enable or false
  ) entries;

  openRoot = root != null && root.fsType == "tmpfs" && !lib.any (lib.hasPrefix "mode=") root.options;

  isNumber = name: builtins.match "[0-9]+" name != null;
  undeclared =
    key: declared:
    lib.filter (it: lib.isString it.${key} && !isNumber it.${key} && !declared ? ${it.${key}}) entries;
  accounts = import ./accounts.nix { inherit config lib; };
  unknown =
    key: declared: map (it: "${it.${key}}, of ${it.target} (${it.from})") (undeclared key declared);
in
{
  config = lib.mkIf cfg.enable {
    inherit assertions;
    warnings =
      lib.optional openRoot ''
        imp-mount:
            fileSystems."/" is a tmpfs whose options do not say its mode, so everybody could create files in it. Add "mode=0755".
      ''
      ++ lib.optionals (lib.any (store: store.enableWarnings) (system ++ homes)) (
        lib.optional (restricted != [ ]) ''
          environment.persistence:
              Programs with set user id, such as sudo, and devices do not work in containers that have their root on a mount that is
              nosuid and nodev, as every mount is unless it is said. Add mountOptions = [ "suid" "dev" ]:
                ${lib.concatMapStringsSep "\n      " (it: "${it.target} (${it.from})") restricted}
        ''
        ++ lib.optional (doubles != [ ]) ''
          environment.persistence:
              fileSystems mounts these from the store, too, as nixos-generate-config writes it down on a running system. Take
              them out of fileSystems:
                ${lib.concatMapStringsSep "\n      " (
                  it: "fileSystems.\"${it.target}\" (${it.from})"
                ) doubles}
        ''
        ++ lib.optional (replaced != [ ]) ''
          environment.persistence:
              NixOS makes these files anew at every boot and switch, which fails on a mount: no user is added or changed. Leave
              them out, as users.users with hashedPasswordFile needs none of them; or set method = "copy":
                ${lib.concatMapStringsSep "\n      " (it: "${it.target} (${it.from})") replaced}
        ''
        ++ lib.optional (!immutable && declared != [ ]) ''
          environment.persistence:
              environment.etc has files of these names, which the mounts from the store hide. Leave them out here or there:
                ${lib.concatMapStringsSep "\n      " (it: "${it.target} (${it.from})") declared}
        ''
        ++ lib.optional (elsewhere != { }) ''
          environment.persistence:
              These lie on file systems of their own, and persist already. Data on a file system that the running system mounts stays
              in place, and its entry is not mounted; data on one that the initrd mounts is hidden by the mount from the store.
              Take the lines out; or, if the store is to have it, copy it there and move it away:
                ${lib.concatStringsSep "\n      " (
                  lib.mapAttrsToList (
                    at: all: "${at}: ${lib.concatMapStringsSep ", " (it: "${it.target} (${it.from})") all}"
                  ) elsewhere
                )}
        ''
        ++ lib.optional (!idsPersist && (usersWithoutUid != [ ] || groupsWithoutGid != [ ])) ''
          environment.persistence:
              Neither ${idsAt} nor any of its parents are
              persisted. This means all users/groups without
              specified uids/gids will have them reassigned on
              reboot.${
                lib.optionalString (
                  idsAt == "/etc"
                ) " Set services.userborn.passwordFilesLocation = \"/var/lib/nixos\", and let it persist."
              }
              ${lib.optionalString (usersWithoutUid != [ ]) ''
                The following users are missing a uid:
                      ${lib.concatStringsSep "\n      " usersWithoutUid}
              ''}
              ${lib.optionalString (groupsWithoutGid != [ ]) ''
                The following groups are missing a gid:
                      ${lib.concatStringsSep "\n      " groupsWithoutGid}
              ''}
        ''
        ++ lib.optional (undeclared "user" accounts.users ++ undeclared "group" accounts.groups != [ ]) ''
          environment.persistence:
              These users and groups are not declared. What is created for them stays root's alone until they exist:
                ${lib.concatStringsSep "\n      " (
                  unknown "user" accounts.users ++ unknown "group" accounts.groups
                )}
        ''
      );
  };
}
