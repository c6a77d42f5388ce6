# The manifest, see manifest(5): the option written by interfaces, presets and users, and the values computed from all
# definitions.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.imp-mount;
  inherit (import ./accounts.nix { inherit config lib; }) users groups;
  paths = import ./paths.nix;

  # An absent key has its default.
  said = lib.filterAttrs (_: value: value != null && value != [ ]);

  list =
    description:
    mkOption {
      # impctl checks the keys: types for them would take more evaluation than the rest of the module.
      type = types.listOf (
        types.raw
        // {
          name = "attrs";
          description = "attribute set";
          check = builtins.isAttrs;
        }
      );
      default = [ ];
      inherit description;
    };

  # A store with keys of its own and with entries is defined twice: plan.nix defines every store with an entry, with `from`.
  mergeStores =
    stores:
    let
      isComputed = store: store ? from;
      computed = lib.filter isComputed stores;
      own = lib.filter (store: !isComputed store) stores;
      same = one: other: paths.join [ (one.path or "/") ] == paths.join [ (other.path or "/") ];
    in
    if own == [ ] then
      stores
    else
      map (store: (lib.findFirst (same store) { } computed) // store) own
      ++ lib.filter (store: !lib.any (same store) own) computed;

  # An entry, with defaults for keys that other files read. A path that is no text is impctl's to refuse.
  entry =
    it:
    {
      store = lib.head (cfg.plan.storePaths ++ [ "/" ]);
      user = "root";
      group = "root";
      mode = if it ? file then null else "0755";
      method = "bind";
      missing = null;
      options = [ ];
      hidden = false;
      trash = false;
      phase = null;
      from = "imp-mount.settings.entries";
    }
    // it
    // {
      kind = if it ? file then "file" else "directory";
      target = paths.join [ (it.file or it.directory or "/") ];
    };

  # The ids of owners of created files, as far as they are known without an allocator.
  owners =
    cfg.settings.entries ++ lib.catAttrs "parents" cfg.settings.entries ++ cfg.settings.parents;
  ids =
    key: declared: id:
    said (
      lib.genAttrs (lib.filter (name: lib.isString name && name != "root" && declared ? ${name}) (
        lib.catAttrs key owners
      )) (name: declared.${name}.${id})
    );

  root = if cfg.root == null then { } else said cfg.root;
  old = cfg.oldRoots;
in
{
  options.imp-mount = {
    settings = mkOption {
      type = types.submodule {
        freeformType = (pkgs.formats.json { }).type;
        options = {
          entries = list "Directories and files that persist, each with the keys of an entry.";
          parents = list "Directories above entries, with the owner and mode to create them with.";
          stores = list "Stores: `path`, and `required` or `device` where they differ from the default." // {
            apply = mergeStores;
          };
        };
      };
      default = { };
      example = {
        entries = [
          {
            directory = "/var/lib/films";
            source = "/media/films";
          }
        ];
      };
      description = ''
        The manifest, with the keys of manifest(5). `environment.persistence`, `home.persistence`, `preservation`, `imp-mount.persist` and
        the options beside this one write into it; definitions here are added. `imp-mount.root`, `imp-mount.convert` and
        `imp-mount.oldRoots` also add units, unlike their keys here.
      '';
    };

    entries = mkOption {
      type = types.raw;
      readOnly = true;
      internal = true;
      description = ''
        The entries of the manifest for other modules, with defaults, and `target` and `kind` (`directory` or `file`).
      '';
    };

    manifest = mkOption {
      type = types.raw;
      readOnly = true;
      internal = true;
      description = "The manifest in the form for `impctl compile`.";
    };

    compiled = mkOption {
      type = types.package;
      readOnly = true;
      internal = true;
      description = "The compiled manifest.";
    };
  };

  config.imp-mount = {
    settings = {
      version = 1;
      root = lib.mkIf (cfg.convert != null || cfg.plan.buildsRoot) (
        root // lib.optionalAttrs (cfg.convert != null) { inherit (cfg) convert; }
      );
      old_roots = lib.mkIf old.enable (said {
        inherit (old)
          store
          boots
          days
          size
          ;
        save_size = old.saveSize;
        save_seconds = old.saveSeconds;
      });
      ids = {
        users = ids "user" users "uid";
        groups = ids "group" groups "gid";
      };
      layout = {
        filesystems = map (it: {
          path = it.mountPoint;
          fstype = it.fsType;
          in-initrd = utils.fsNeededForBoot it;
        }) (lib.attrValues config.fileSystems);
        etc-overlay = config.system.etc.overlay.enable;
      };
    };

    entries = map entry cfg.settings.entries;
    manifest = said cfg.settings;
    compiled =
      pkgs.runCommand "imp-mount-manifest"
        {
          json = builtins.toJSON cfg.manifest;
          passAsFile = [ "json" ];
          nativeBuildInputs = [ (import ./tool.nix { inherit pkgs cfg; }) ];
        }
        ''
          impctl compile "$jsonPath" -o "$out"
        '';
  };
}
