# `imp-mount`: the switches of the whole.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  paths = import ./paths.nix;
  is = pattern: text: builtins.match pattern text != null;
  text =
    description: check:
    types.str
    // {
      inherit description;
      check = it: builtins.isString it && check it;
    };
  size =
    pattern: example: description:
    mkOption {
      type = types.nullOr (text "string such as ${example}" (is pattern));
      default = null;
      inherit description;
    };
  clean = path: if path == null then null else paths.join [ path ];
  limit =
    type: default: description:
    mkOption { inherit type default description; };
in
{
  imports = [
    (lib.mkRemovedOptionModule [ "imp-mount" "auditIgnore" ] "It is `imp-mount.audit.ignore`.")
    (lib.mkRemovedOptionModule [ "imp-mount" "auditFindings" ] "It is `imp-mount.audit.findings`.")
  ];

  options.imp-mount = {
    enable = mkOption {
      type = types.bool;
      default = config.imp-mount.plan.isNamed;
      defaultText = lib.literalMD "`true` where `environment.persistence` or a home names a store, or `imp-mount.persist` a group";
      example = true;
      description = ''
        Mount the paths of `environment.persistence` over a root that is empty at every boot.

        By default `fileSystems` defines the root. A definition of `true` makes it a tmpfs unless `imp-mount.root.on`,
        `fileSystems."/"` or `imp-mount.convert` defines it.
      '';
    };

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalMD "the package that comes with the module";
      example = lib.literalExpression "packages.imp-mount // { initrd = packages.imp-mount-initrd-musl; }";
      description = ''
        The package with `imp-mount` and `impctl` for the running system, and, as its attribute `initrd`, the static `imp-mount`
        for the initrd. The latter includes parts of glibc, 1.3 MB; the flake's package `imp-mount-initrd-musl` has 0.5 MB,
        and needs a toolchain for musl.
      '';
    };

    root = mkOption {
      type = types.nullOr (
        types.submodule {
          options = {
            on = mkOption {
              type = types.nullOr types.path;
              default = null;
              apply = clean;
              example = "/persist";
              description = ''
                The store with the root: a directory, on btrfs a subvolume, new at every boot. It takes no memory; omit
                `fileSystems."/"`, `size` and `inodes`. The root of the previous boot is removed some minutes after
                the next one, unless `imp-mount.oldRoots` keeps it. `null` makes the root a tmpfs.
              '';
            };
            # A number without a suffix is bytes, and no system fits into few of them.
            size =
              size "[0-9]{7,}|0*[1-9][0-9]*[kKmMgG%]" ''"8G" or "50%"''
                "Its size: bytes, with a suffix k, m or g, or a share of the memory such as `50%`.";
            inodes =
              size "0|[0-9]{4,}|0*[1-9][0-9]*[kKmMgG]" ''"1M"''
                "Maximum number of inodes, with a suffix k, m or g; `0` is no limit.";
            mode = mkOption {
              type = text ''octal mode such as "0755"'' (is "[0-7]{3,4}");
              default = "0755";
              description = "The mode of `/`.";
            };
            options = mkOption {
              # `/` belongs to root, and is written to.
              type = types.listOf (
                text "mount option, but for size, nr_inodes, mode, uid, gid and ro" (
                  it: !is "(size|nr_blocks|nr_inodes|mode|uid|gid)=.*|ro" it
                )
              );
              default = [ ];
              example = [ "huge=within_size" ];
              description = "Further options of tmpfs(5) or of the mount.";
            };
          };
        }
      );
      default = null;
      example = {
        size = "8G";
      };
      description = "The root, empty at every boot, a tmpfs or a directory of a store; with `null` by `fileSystems.\"/\"`.";
    };

    convert = mkOption {
      type = types.nullOr types.path;
      default = null;
      apply = clean;
      example = "/persist";
      description = ''
        The disk of `fileSystems."/"` becomes the store at this path, and a tmpfs, or a directory of the store
        (`imp-mount.root.on`), becomes the root: an existing installation is converted at its next boot without a copy.
        Earlier generations still boot from the disk as before. `fileSystems` must have no file system at this path.
      '';
    };

    oldRoots = {
      enable = mkOption {
        type = types.bool;
        default = false;
        example = true;
        description = ''
          Keep roots of earlier boots for `impctl recover`: a root on a store completely; of a tmpfs, the paths of `impctl
          lost`, saved by a shutdown. Deleted files, secrets too, stay on the disk for this time.
        '';
      };
      store = mkOption {
        type = types.nullOr types.path;
        default = null;
        apply = clean;
        example = "/persist";
        description = "The store for old roots; `null` is the store of the root, or the only one.";
      };
      boots = limit types.ints.positive 10 "Maximum number of old roots.";
      days = limit types.ints.positive 30 "Maximum age of old roots, in days.";
      size = limit types.str "10G" "Maximum size of all old roots: bytes, with a suffix k, m, g or t.";
      saveSize = limit types.str "1G" ''
        Maximum size of a saved tmpfs root. The largest files are omitted first, and listed.
      '';
      saveSeconds = limit types.ints.positive 60 "Maximum duration of the save at shutdown, in seconds.";
      every = mkOption {
        type = types.nullOr types.ints.positive;
        default = null;
        example = 60;
        description = ''
          Interval in minutes to save a tmpfs root, too: a power cut loses only later changes. `null` saves at shutdown only. A
          root on a store needs no saving.
        '';
      };
    };

    metrics = {
      enable = mkOption {
        type = types.bool;
        default = false;
        example = true;
        description = "Write metrics for Prometheus every minute, as `impctl status --metrics` prints them.";
      };
      file = mkOption {
        type = types.path;
        default = "/var/lib/node-exporter/imp-mount.prom";
        description = ''
          The file for the metrics. A missing directory is created; name the directory to the node exporter with
          `--collector.textfile.directory=` in `services.prometheus.exporters.node.extraFlags`.
        '';
      };
    };
  };
}
