# Paths that outlive a boot: named ones, those in a store, and those on a file system of their own.
{ lib }:
let
  paths = import ../paths.nix;
  set = names: lib.genAttrs names (_: true);

  # The deepest first, "/" left out: the root itself never outlives a boot.
  upwards = path: [ path ] ++ lib.reverseList (paths.ancestors path);
  firstOf = test: path: lib.findFirst (at: test at != null) null (upwards path);

  # A pattern of glob(7) as a regular expression; a `[` without a set of characters is literal.
  pattern =
    text:
    let
      piece =
        it:
        if lib.isList it then
          let
            chars = lib.head it;
          in
          if lib.hasPrefix "!" chars then "[^${lib.removePrefix "!" chars}]" else "[${chars}]"
        else
          lib.replaceStrings [ "\\*" "\\?" ] [ "[^/]*" "[^/]" ] (lib.escapeRegex it);
    in
    lib.concatMapStrings piece (builtins.split "\\[(!?[[:alnum:]_.]+)]" text);
in
{
  # True if a path matches a pattern, or lies below a match.
  matches = text: path: builtins.match "${pattern text}(/.*)?" path != null;

  # `entries` as in imp-mount.entries, `fileSystems` a list as in the configuration, `stores` beside those of the entries, `links`
  # the targets of the system's symbolic links by path.
  kept =
    {
      entries,
      fileSystems,
      stores ? [ ],
      links ? { },
    }:
    let
      byKind = kind: lib.filter (entry: entry.kind == kind) entries;
      named = map (entry: entry.target) (byKind "directory");
      directories = set (named ++ lib.unique (stores ++ map (entry: entry.store) entries));
      # Grouped by directory: the cost of a file does not grow with the number of entries.
      files = lib.groupBy dirOf (map (entry: entry.target) (byKind "file"));
      mounts = lib.listToAttrs (
        map (fs: lib.nameValuePair (paths.join [ fs.mountPoint ]) fs) fileSystems
      );
      inMemory = [
        "tmpfs"
        "ramfs"
        "devtmpfs"
        # Writes go to the upper directory of an overlay, which is unknown here.
        "overlay"
      ];
      # Recognized by the device: NixOS adds the boot's own words to the options, and they depend on the entries.
      isBind =
        fs:
        lib.elem fs.fsType [
          "none"
          "auto"
        ]
        && lib.hasPrefix "/" (toString fs.device)
        && !lib.hasPrefix "/dev/" fs.device;

      # The deepest entry or file system at or above a path decides.
      directory =
        path:
        let
          at = firstOf (at: directories.${at} or mounts.${at} or links.${at} or null) path;
        in
        at != null
        && (
          directories ? ${at}
          || (
            !mounts ? ${at}
            && links ? ${at}
            && (
              paths.isIn builtins.storeDir links.${at} || (!paths.isIn path links.${at} && directory links.${at})
            )
          )
          || (
            mounts ? ${at}
            && !lib.elem mounts.${at}.fsType inMemory
            && (isBind mounts.${at} -> mounts.${at}.device != path && directory mounts.${at}.device)
          )
        );
    in
    {
      inherit directory;
      # A pattern matches files only, and hidden files only if the pattern begins with a dot.
      file =
        path:
        let
          isHidden = at: lib.hasPrefix "." (baseNameOf at);
          isMatch =
            it: it == path || ((isHidden path -> isHidden it) && builtins.match (pattern it) path != null);
        in
        directory path || lib.any isMatch (files.${dirOf path} or [ ]);
      # True if a path below a directory is named: then the choice was made there.
      chosen =
        let
          above = set (lib.concatMap (entry: paths.ancestors entry.target) entries);
        in
        path: above ? ${path};
    };
}
