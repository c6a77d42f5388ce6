# The options of one persistent directory or file.
#
# All of nix-community/impermanence's interface is here with its types and defaults, also options that are internal there
# but used by other modules (`dirPath`, `filePath`, `home`, `defaultPerms`).
{ lib }:
{
  # The place of the list, such as `environment.persistence."/persist"`.
  place,
  # The store's options, whose flags are the entries' defaults.
  store,
  # The owner of created directories, and the base directory of relative paths (null: none).
  user,
  group,
  home,
}:
let
  inherit (lib) mkOption types;
  paths = import ../../paths.nix;
  removed = import ./removed.nix { inherit lib; };

  owner = {
    user = mkOption {
      type = types.str;
      default = user;
      defaultText = lib.literalMD "`root`, or the user whose home it is in";
      description = "Owner of the directory when it is created: a name or a number.";
    };
    group = mkOption {
      type = types.nullOr types.str;
      default = group;
      defaultText = lib.literalMD "`root`, or the primary group of the user whose home it is in";
      description = "The group of the directory when it is created: a name or a number.";
    };
    mode = mkOption {
      type = types.str;
      default = "0755";
      example = "u=rwx,g=rx,o=";
      description = "The mode of the directory when it is created, octal or symbolic.";
    };
  };

  common = {
    persistentStoragePath = mkOption {
      type = types.path;
      default = store.persistentStoragePath;
      defaultText = lib.literalMD "the store's `persistentStoragePath`";
      description = "The store of the path.";
    };
    hideMount = mkOption {
      type = types.bool;
      default = store.hideMounts;
      defaultText = lib.literalMD "the store's `hideMounts`";
      example = true;
      description = "Hide the mount from file managers.";
    };
    allowTrash = mkOption {
      type = types.bool;
      default = store.allowTrash;
      defaultText = lib.literalMD "the store's `allowTrash`";
      example = true;
      description = "Let file managers keep a trash folder on the mount.";
    };
    home = mkOption {
      type = types.nullOr types.path;
      default = home;
      internal = true;
      description = "The base directory of relative paths.";
    };
    enableDebugging = mkOption {
      type = types.bool;
      default = store.enableDebugging;
      internal = true;
      description = "Accepted without effect: `imp-mount --check` reports the state of all entries.";
    };
    assertions = mkOption {
      type = types.listOf types.unspecified;
      default = [ ];
      internal = true;
      description = "Assertions forwarded to NixOS.";
    };
  };

  # Options of imp-mount only.
  more = {
    mountOptions = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "noexec" ];
      description = "Options of the mount, beside `nosuid` and `nodev`; `suid` and `dev` remove these.";
    };
    required = mkOption {
      type = types.nullOr types.bool;
      default = null;
      description = ''
        Stop a boot without the path in the emergency shell. Otherwise the path is guarded, so that no file is written to
        memory. By default true, but for a path on a disk that is mounted late, where data persist without an entry.
      '';
    };
    enforce = mkOption {
      type = types.bool;
      default = false;
      description = "Set owner and mode of existing files and directories as well.";
    };
    phase = mkOption {
      type = types.nullOr (
        types.enum [
          "early"
          "boot"
          "etc"
          "live"
        ]
      );
      default = null;
      description = ''
        Time of the mount: before the search for the system, after the mount of the root, after the overlay on /etc, or on the
        running system. By default computed from the file systems.
      '';
    };
  };

  internal = lib.mapAttrs (
    _: option: if lib.isOption option then option // { internal = true; } else internal option
  );

  directoryOptions =
    common
    // owner
    // {
      directory = mkOption {
        type = types.str;
        description = "The path, absolute or relative to the home.";
      };
      defaultPerms = internal owner;
      dirPath = mkOption {
        type = types.path;
        internal = true;
        description = "The absolute path.";
      };
    };

  # The file with the definition of a list's element.
  from = list: files: "${place}.${list}, ${lib.concatMapStringsSep " and " paths.place files}";

  gone = removed {
    place = "${place}.directories.*";
    removed.method = {
      keeps = [
        "auto"
        "bind"
        "symlink"
      ];
      text = ''
        ▹ persistence."${store.persistentStoragePath}":
            As real bind mounts are now used instead of bindfs, changing the directory linking
            method is deprecated. `bind' and `symlink' are what there is.
      '';
      description = ''
        Method: `auto` or `bind`, a mount, or `symlink`, a symbolic link into the store. By default a mount.
      '';
    };
  };

  directory =
    { config, options, ... }:
    {
      options =
        directoryOptions
        // more
        // gone.options
        // {
          from = mkOption {
            type = types.str;
            internal = true;
            description = "Position of its definition.";
          };
        };
      config = {
        assertions = lib.mkIf (config.method != null) (gone.assertions config options);
        dirPath = paths.join [
          (if config.home == null then "/" else config.home)
          config.directory
        ];
        from = lib.mkOptionDefault (from "directories" options.directory.files);
      };
    };

  file =
    { config, options, ... }:
    {
      options =
        common
        // more
        // {
          file = mkOption {
            type = types.str;
            description = ''
              The path, absolute or relative to the home. The last component may contain `*`, `?` and `[...]`: every matching file on
              the store is mounted, and later matches on the root are copied to the store at shutdown. Directories do not match.
            '';
          };
          parentDirectory = internal directoryOptions;
          method = mkOption {
            type = types.enum [
              "auto"
              "bind"
              "symlink"
              "copy"
            ];
            default = "auto";
            description = ''
              Method: `auto` or `bind`, a mount; `symlink`, a symbolic link into the store; `copy`, a copy, written back at shutdown
              if changed, for programs that replace the file.
            '';
          };
          missing = mkOption {
            type = types.nullOr (
              types.enum [
                "link"
                "create"
                "skip"
                "fail"
                "machine-id"
              ]
            );
            default = null;
            defaultText = lib.literalMD "`link`; `machine-id` for /etc/machine-id";
            description = ''
              Action for a file missing on the store: place a symbolic link, so that a program creates the file on the store; create
              an empty file; skip the entry; fail; or make this a first boot for systemd.
            '';
          };
          user = mkOption {
            type = types.nullOr types.str;
            default = if home == null then null else user;
            defaultText = lib.literalMD "`root`, or the user whose home it is in";
            description = "Owner of the file when it is created: a name or a number.";
          };
          group = mkOption {
            type = types.nullOr types.str;
            default = if home == null then null else group;
            defaultText = lib.literalMD "`root`, or the primary group of the user whose home it is in";
            description = "The group of the file when it is created: a name or a number.";
          };
          mode = mkOption {
            type = types.nullOr types.str;
            default = null;
            defaultText = "0644";
            description = "The mode of the file when it is created, octal or symbolic.";
          };
          filePath = mkOption {
            type = types.path;
            internal = true;
            description = "The absolute path.";
          };
          from = mkOption {
            type = types.str;
            internal = true;
            description = "Position of its definition.";
          };
        };
      config =
        let
          base = if config.home == null then "/" else config.home;
          directory = dirOf config.file;
        in
        {
          filePath = paths.join [
            base
            config.file
          ];
          from = lib.mkOptionDefault (from "files" options.file.files);
          parentDirectory = {
            inherit directory;
            inherit (config) home persistentStoragePath;
            dirPath = paths.join [
              base
              directory
            ];
          };
        };
    };

  # A path without quotes, too, which would be a module's.
  path = types.str // {
    check = it: builtins.isString it || builtins.isPath it;
  };
in
{
  directories = types.listOf (
    types.coercedTo path (it: { directory = toString it; }) (types.submodule directory)
  );
  files = types.listOf (types.coercedTo path (it: { file = toString it; }) (types.submodule file));
}
