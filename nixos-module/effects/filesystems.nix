# The root and the stores in `fileSystems`, and their lines in the fstab(5) of the running system.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.imp-mount;
  paths = import ../paths.nix;

  # Weaker than mkDefault, stronger than an option's own default: any definition of the user wins.
  weak = 1400;
  mkWeak = lib.mkOverride weak;

  # True if the root is in fileSystems.
  isOurs =
    cfg.plan.makesRoot
    && cfg.convert == null
    && config.boot.initrd.enable
    && !cfg.plan.onStore
    && !cfg.plan.buildsRoot;

  # File systems below a store, and tmpfs below an entry, must be mounted before the entries. NixOS marks the root itself.
  neededForBoot =
    fs:
    fs.mountPoint != "/"
    && cfg.enable
    && (
      lib.any (paths.isIn fs.mountPoint) cfg.plan.storePaths
      || (fs.fsType == "tmpfs" && lib.any (entry: paths.isIn fs.mountPoint entry.target) cfg.entries)
    );

  # The converted disk is the root in the initrd only. The running system remounts its root by this line: a tmpfs keeps its
  # options, and the disk, which is the root with imp-mount=off, has no tmpfs options.
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
    # A root on a store needs the mount of this store only.
    boot.initrd.systemd.root = lib.mkIf (cfg.plan.onStore && cfg.convert == null && cfg.enable) (
      mkWeak null
    );
    environment.etc = lib.mkIf (cfg.convert != null && cfg.enable) {
      fstab.source = lib.mkForce (pkgs.writeText "fstab" converted);
    };
  };
}
