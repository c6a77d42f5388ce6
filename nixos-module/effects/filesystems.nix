# The root and the stores among `fileSystems`, and what of it the running system's fstab(5) says.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.imp-mount;
  paths = import ../paths.nix;

  # Below mkDefault, and above an option's own default: whatever anybody says counts more.
  weak = 1400;
  mkWeak = lib.mkOverride weak;

  # True if the root is in fileSystems.
  isOurs =
    cfg.plan.makesRoot
    && cfg.convert == null
    && config.boot.initrd.enable
    && !cfg.plan.onStore
    && !cfg.plan.buildsRoot;

  # A file system that a store lies on, or a tmpfs that an entry lies on, has to be there when the entries are mounted. NixOS needs
  # the root in any case.
  neededForBoot =
    fs:
    cfg.enable
    && fs.mountPoint != "/"
    && (
      lib.any (paths.isIn fs.mountPoint) cfg.plan.storePaths
      || (fs.fsType == "tmpfs" && lib.any (entry: paths.isIn fs.mountPoint entry.target) cfg.entries)
    );

  # The disk that is converted is the root for the initrd alone. The system remounts whatever its root is by this line: a tmpfs
  # keeps its options, and the disk, which is the root with imp-mount=off, knows none of them.
  rootType = if cfg.plan.onStore then "auto" else "tmpfs";
  isRoot = line: builtins.match "[^# ]+ / .*" line != null;
  converted = lib.concatMapStringsSep "\n" (
    line: if isRoot line then "imp-mount / ${rootType} defaults 0 0" else line
  ) (lib.splitString "\n" config.environment.etc.fstab.text);
in
{
  options.fileSystems = lib.mkOption {
    type = lib.types.attrsOf (
      lib.types.submodule (
        { config, options, ... }:
        {
          config.neededForBoot = lib.mkIf (neededForBoot config) (mkWeak true);
          config.options = lib.mkIf (
            isOurs && config.mountPoint == "/" && options.fsType.highestPrio == weak
          ) cfg.plan.rootOptions;
        }
      )
    );
  };

  config = {
    fileSystems = lib.mkIf isOurs { "/".fsType = mkWeak "tmpfs"; };
    # A root on a store needs the mount of that store alone.
    boot.initrd.systemd.root = lib.mkIf (cfg.enable && cfg.plan.onStore && cfg.convert == null) (
      mkWeak null
    );
    environment.etc = lib.mkIf (cfg.enable && cfg.convert != null) {
      fstab.source = lib.mkForce (pkgs.writeText "fstab" converted);
    };
  };
}
