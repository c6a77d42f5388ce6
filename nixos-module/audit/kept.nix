# Which paths outlive a boot: those that are named, those in a store, and those on a file system of their own.
{ lib }:
let
  paths = import ../paths.nix;
  set = names: lib.genAttrs names (_: true);

  # The deepest first, "/" left out: the root itself never outlives a boot.
  upwards = path: [ path ] ++ lib.reverseList (paths.ancestors path);
  firstOf = test: path: lib.findFirst (at: test at != null) null (upwards path);

  # A pattern of glob(7) as a regular expression; what could not be a set of characters stands for itself.
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
  # where symbolic links point to that the system makes, by their paths.
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
      # By the directory that they are in, so that a host with a thousand entries costs no more than one with ten.
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
      # Told by the device, as NixOS adds to the options what the boot needs, and that depends on the entries.
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
      # A pattern is for files only, and for hidden ones only if it begins with their dot.
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
