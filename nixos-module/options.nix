# `imp-mount`: the switches of the whole.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  size =
    text:
    mkOption {
      type = types.nullOr types.str;
      default = null;
      description = text;
    };
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

        By default the root is left to `fileSystems`. A definition of `true` makes it a tmpfs unless `imp-mount.root.on`, `fileSystems."/"`
        or `imp-mount.convert` says what it is.
      '';
    };

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalMD "the package that comes with the module";
      example = lib.literalExpression "packages.imp-mount // { initrd = packages.imp-mount-initrd-musl; }";
      description = ''
        The package with `imp-mount` and `impctl` for the running system, and, as its attribute `initrd`, the static `imp-mount`
        for the initrd. That has glibc's parts in it, 1.3 MB; the flake's package `imp-mount-initrd-musl` has 0.5 MB, and needs a
        toolchain for musl to be built.
      '';
    };

    root = mkOption {
      type = types.nullOr (
        types.submodule {
          options = {
            on = mkOption {
              type = types.nullOr types.path;
              default = null;
              example = "/persist";
              description = ''
                The store on which the root is a directory, on btrfs a subvolume, that is made anew at every boot. It takes no memory;
                `fileSystems."/"` is left out, and `size` and `inodes` as well. What the boot before left is removed some minutes after
                the next one, unless `imp-mount.oldRoots` keeps it. `null` makes the root a tmpfs.
              '';
            };
            size = size "Its size: bytes, with a suffix k, m or g, or a share of the memory such as `50%`.";
            inodes = size "How many inodes it may have, with a suffix k, m or g.";
            mode = mkOption {
              type = types.str;
              default = "0755";
              description = "The mode of `/`.";
            };
            options = mkOption {
              type = types.listOf types.str;
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
      description = "The root that is empty at every boot, a tmpfs or a directory of a store; `null` leaves it to `fileSystems.\"/\"`.";
    };

    convert = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/persist";
      description = ''
        The disk that `fileSystems."/"` names becomes the store at this path, and a tmpfs, or a directory of it
        (`imp-mount.root.on`), becomes the root: an existing installation is converted at its next boot without copying a byte.
        Earlier generations still boot from it as before. `fileSystems` has nothing at this path.
      '';
    };

    oldRoots = {
      enable = mkOption {
        type = types.bool;
        default = false;
        example = true;
        description = ''
          Keep what earlier boots left on the root, for `impctl recover` to bring back: a root on a store as it was; of a tmpfs, what
          `impctl lost` names, which a shutdown saves. What is thrown away, secrets too, is on the disk for as long as that.
        '';
      };
      store = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = "/persist";
        description = "The store that has them; `null` is that of the root, or the only one.";
      };
      boots = limit types.ints.positive 10 "The most that are kept.";
      days = limit types.ints.positive 30 "How old they may become.";
      size = limit types.str "10G" "How large they may be together: bytes, with a suffix k, m, g or t.";
      saveSize = limit types.str "1G" ''
        The most that a shutdown saves of a tmpfs root. The largest files are left out first, and listed.
      '';
      saveSeconds = limit types.ints.positive 60 "The most seconds that a shutdown takes for it.";
      every = mkOption {
        type = types.nullOr types.ints.positive;
        default = null;
        example = 60;
        description = ''
          Save a tmpfs root every so many minutes, too, so that a power cut costs no more than that. `null` saves at shutdown only.
          A root on a store needs no saving, and nothing is done for it.
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
          The file that has them. Its directory is made where it is missing; name it to the node exporter with
          `--collector.textfile.directory=` in `services.prometheus.exporters.node.extraFlags`.
        '';
      };
    };
  };
}
