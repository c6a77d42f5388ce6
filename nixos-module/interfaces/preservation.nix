# `preservation` in the form of nix-community/preservation: definitions go to `environment.persistence`.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  inherit (config.users) users;
  cfg = config.preservation;
  paths = import ../paths.nix;
  accounts = import ../accounts.nix { inherit config lib; };

  value = type: default: mkOption { inherit type default; };
  flag = value types.bool false;
  groupOf = user: accounts.users.${user}.group or user;
  owner = user: mode: {
    user = value types.str user;
    group = value types.str (groupOf user);
    mode = value types.str mode;
  };
  # Fields of tmpfiles.d(5): `-` is its default; `:` before a value, and `~` before a mode, are for created paths only.
  field =
    default: value:
    if value == "-" then
      default
    else
      lib.removePrefix ":" (lib.removePrefix "~" (lib.removePrefix ":" value));
  ownerOf = mode: it: {
    user = field "root" it.user;
    group = field "root" it.group;
    mode = field mode it.mode;
  };
  isForExisting =
    it:
    lib.all (value: builtins.match "[-:~].*" value == null) [
      it.user
      it.group
      it.mode
    ];
  # Words, or names with their values.
  mountOptions = value (types.listOf (
    types.coercedTo (types.attrsOf (types.nullOr types.str)) (
      option: option.name + lib.optionalString (option.value or null != null) "=${option.value}"
    ) types.str
  )) [ ];

  # Directories or files. `level` has the list's place, owner and shared values: { place, user, home, mountOptions }.
  list =
    level: kind: mode:
    mkOption {
      default = [ ];
      apply = map (entry level kind mode);
      type = types.listOf (
        types.coercedTo types.str (path: { ${kind} = path; }) (
          types.submodule (
            { options, ... }:
            {
              options = owner level.user mode // {
                inherit mountOptions;
                ${kind} = mkOption { type = types.str; };
                how = value (types.enum [
                  "bindmount"
                  "symlink"
                ]) "bindmount";
                createLinkTarget = flag;
                configureParent = flag;
                parent = owner level.user "0755";
                # Everything is mounted there.
                inInitrd = flag;
                from = value types.str "${level.place}, ${
                  lib.concatMapStringsSep " and " paths.place options.${kind}.files
                }";
              };
            }
          )
        )
      );
    };
  lists = level: {
    commonMountOptions = mountOptions;
    directories = list level "directory" "0755";
    files = list level "file" "0644";
  };

  # One of them in the words of environment.persistence.
  entry =
    level: kind: mode: it:
    let
      words = level.mountOptions ++ it.mountOptions;
      between = {
        inherit (level) user;
        group = groupOf level.user;
        mode = "0755";
      };
      parent = if it.configureParent then ownerOf "0755" it.parent else between;
      folders =
        if kind == "directory" then
          { defaultPerms = parent; }
        else
          {
            parentDirectory = parent // {
              defaultPerms = between;
            };
            missing = if it.createLinkTarget then "create" else null;
          };
      # The target of a link is created by its program, with that program's owner and mode: a key has no default mode.
      isOthers = kind == "file" && it.how == "symlink" && !it.createLinkTarget;
      owner = lib.optionalAttrs (!isOthers) (ownerOf mode it);
      more =
        folders
        // owner
        // {
          method = if it.how == "symlink" then "symlink" else "auto";
          # At every boot; for a link only if its target is created.
          enforce = (it.how == "bindmount" || it.createLinkTarget) && isForExisting it;
          hideMount = lib.elem "x-gvfs-hide" words;
          allowTrash = lib.elem "x-gvfs-trash" words;
          # Other words for programs do not reach a mount.
          mountOptions = lib.filter (word: !lib.hasPrefix "x-" (lib.toLower word)) words;
        };
    in
    # A machine id needs no recipe.
    lib.optionalAttrs (it.${kind} != "/etc/machine-id") more
    // {
      ${kind} = it.${kind};
      inherit (level) home;
      inherit (it) from;
    };

  ofUser =
    place: mountOptions:
    { name, config, ... }:
    {
      options = {
        username = value types.str name;
        # An assertion refuses an unknown user.
        home = value types.path (toString (users.${config.username}.home or "/home/${config.username}"));
      }
      // lists {
        place = "${place}.users.${name}";
        user = accounts.login config.username;
        inherit (config) home;
        mountOptions = mountOptions ++ config.commonMountOptions;
      };
    };
  store =
    { name, config, ... }:
    let
      place = ''preservation.preserveAt."${name}"'';
    in
    {
      options = {
        persistentStoragePath = value types.path name;
        users = value (types.attrsOf (types.submodule (ofUser place config.commonMountOptions))) { };
      }
      // lists {
        inherit place;
        user = "root";
        home = null;
        mountOptions = config.commonMountOptions;
      };
    };
in
{
  options.preservation.enable = lib.mkEnableOption "the paths of `preservation.preserveAt`";
  options.preservation.preserveAt = value (types.attrsOf (types.submodule store)) { } // {
    visible = "shallow";
    description = "Persistent paths, in the form of nix-community/preservation.";
  };

  config.environment.persistence = lib.mkIf cfg.enable (
    lib.mapAttrs (_: at: {
      inherit (at) persistentStoragePath;
      directories = lib.concatMap (level: level.directories) ([ at ] ++ lib.attrValues at.users);
      files = lib.concatMap (level: level.files) ([ at ] ++ lib.attrValues at.users);
    }) cfg.preserveAt
  );
}
