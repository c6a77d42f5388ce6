# Refusals of stores that cannot keep what persists, and a warning where none of them is used.
{
  config,
  lib,
  utils,
  ...
}:
let
  cfg = config.imp-mount;
  inherit (cfg.plan) isEmptied;
  paths = import ./paths.nix;
  fileSystems = lib.filter (fs: fs.mountPoint != "/") (lib.attrValues config.fileSystems);

  # Each store with its file systems, the nearest first. The converted disk is the store itself, and imp-mount mounts a device.
  stores = map (
    store:
    store
    // {
      on = lib.sort (one: other: one.mountPoint > other.mountPoint) (
        lib.filter (fs: paths.isIn (paths.join [ fs.mountPoint ]) store.path) fileSystems
      );
    }
  ) (lib.filter (store: store.path != cfg.convert && store.device or null == null) cfg.plan.stores);

  place = store: lib.optionalString (store ? from) " (${store.from})";

  # Units of the initrd may mount a store, too.
  unmounted = lib.filter (
    store:
    store.on == [ ]
    && !isImpossible store
    && !lib.any (mount: lib.hasSuffix store.path mount.where) (
      config.boot.initrd.systemd.mounts ++ config.systemd.mounts
    )
  ) stores;

  notInInitrd = lib.unique (
    map (fs: fs.mountPoint) (
      lib.filter (fs: !utils.fsNeededForBoot fs || lib.elem "noauto" fs.options) (
        lib.concatMap (store: store.on) stores
      )
    )
  );

  # impctl refuses these paths.
  isImpossible = store: builtins.match "/|/(run|proc|sys|dev|nix/store)(/.*)?" store.path != null;

  # By type of the file system.
  reasons =
    lib.genAttrs [ "tmpfs" "ramfs" ] (_: "is in memory, and empty at every boot")
    // lib.genAttrs [ "vfat" "msdos" "exfat" "ntfs" "ntfs3" ] (_: "keeps no owners and modes")
    // lib.genAttrs [ "squashfs" "erofs" "iso9660" ] (_: "is read-only");
  unfit = lib.filter (store: store.on != [ ] && reasons ? ${(lib.head store.on).fsType}) stores;
in
{
  config.warnings = lib.optional (!cfg.enable && cfg.plan.isNamed && cfg.plan.isTmpfs) ''
    imp-mount.enable:
        It is false, and the root is in memory: of what environment.persistence names, nothing is mounted, and all of it is lost at
        the next boot. Take the definition out; or put the root on a disk, fileSystems."/".
  '';
  config.assertions = lib.mkIf cfg.enable [
    {
      assertion = notInInitrd == [ ];
      message = ''
        environment.persistence:
            All filesystems used for persistent storage must
            have the option "neededForBoot" set to true, and
            must not have "noauto" in their options.

            Please fix the following filesystems:
              ${lib.concatStringsSep "\n      " notInInitrd}
      '';
    }
    {
      assertion = unfit == [ ];
      message = ''
        environment.persistence:
            These stores cannot keep what persists. Use a file system such as ext4, btrfs, XFS or ZFS:
              ${lib.concatMapStringsSep "\n      " (
                store:
                let
                  fs = lib.head store.on;
                in
                "${store.path}${place store}: fileSystems.\"${fs.mountPoint}\", of type ${fs.fsType}, ${reasons.${fs.fsType}}"
              ) unfit}
      '';
    }
    # A container's store comes from its host.
    {
      assertion = !(config.boot.initrd.enable && isEmptied) || unmounted == [ ];
      message = ''
        environment.persistence:
            These stores would be on ${
              if cfg.plan.onStore then "the root itself" else "the tmpfs that is the root"
            }, as no file system is mounted where they are. Mount the disks:
              ${lib.concatMapStringsSep "\n      " (
                store: "fileSystems.\"${store.path}\"${place store}"
              ) unmounted}
      '';
    }
  ];
}
