# The initrd: the static binary, the manifest and the units of ../../initrd.
{
  config,
  lib,
  utils,
  ...
}:
let
  cfg = config.imp-mount;
  inherit (cfg) plan;
  paths = import ../paths.nix;
  binary = "${cfg.package.initrd}/bin/imp-mount";

  inSysroot = path: if path == "/" then "/sysroot" else "/sysroot${path}";
  mountUnit = fs: "${utils.escapeSystemdPath (inSysroot fs.mountPoint)}.mount";
  line =
    key: values: lib.optionalString (values != [ ]) "${key}=${lib.concatStringsSep " " values}\n";

  # Wants, not Requires: for a missing store, imp-mount prints the error and its remedy.
  after = stores: line "WantsMountsFor" (map (store: paths.quote (inSysroot store.path)) stores);
  # A converted disk has no mount unit of its own.
  mounted = lib.filter (store: store.path != cfg.convert) plan.stores;
  # Those that initrd-fs.target does not wait for.
  unordered =
    let
      isUnordered =
        fs:
        lib.any (option: lib.elem option fs.options) [
          "nofail"
          "x-systemd.automount"
        ];
      free = lib.filter isUnordered (lib.attrValues config.fileSystems);
    in
    lib.filter (
      store: !store.required || lib.any (fs: paths.isIn fs.mountPoint store.path) free
    ) mounted;

  # When the root itself is replaced, all file systems but the stores come later.
  before =
    let
      holdsStore = fs: lib.any (store: paths.isIn fs.mountPoint store.path) plan.stores;
      others = lib.filter (fs: fs.mountPoint != "/" && utils.fsNeededForBoot fs && !holdsStore fs) (
        lib.attrValues config.fileSystems
      );
    in
    lib.optionalString (cfg.convert != null || plan.buildsRoot) (
      line "Before" (map mountUnit others ++ [ "sysroot-run.mount" ])
    );

  # Settings that the unit file leaves to the installation.
  ordered = file: order: lib.readFile file + lib.optionalString (order != "") "\n[Unit]\n${order}";
in
{
  config = lib.mkIf (cfg.enable && config.boot.initrd.enable) (
    lib.mkMerge [
      (lib.mkIf config.boot.initrd.systemd.enable {
        boot.initrd.systemd = {
          storePaths = [ binary ];
          extraBin.imp-mount = binary;
          contents."/etc/imp-mount/manifest".source = cfg.compiled;
          # Removes the wait for a store that the kernel command line omits.
          contents."/etc/systemd/system-generators/imp-mount-generator".source = binary;
          units."imp-mount.service" = {
            # The others are there by now.
            text = ordered ../../initrd/imp-mount.service (after unordered);
            requiredBy = [
              "initrd-nixos-activation.service"
              "initrd-switch-root.service"
            ];
          };
          # The names of units must not depend on the entries. Without RequiredBy= the unit is not started.
          units."imp-mount-early.service" = {
            text = ordered ../../initrd/imp-mount-early.service (after mounted + before);
            requiredBy = lib.optionals plan.early [
              "initrd-parse-etc.service"
              "initrd-fs.target"
            ];
          };
        };
      })

      # The scripted initrd runs the binary once its script has mounted everything.
      (lib.mkIf (!config.boot.initrd.systemd.enable) {
        boot.initrd.extraFiles."/etc/imp-mount/manifest".source = cfg.compiled;
        boot.initrd.extraUtilsCommands = "cp -v ${binary} $out/bin/imp-mount";
        boot.initrd.postMountCommands = lib.mkAfter ''
          imp-mount --sysroot "$targetRoot" --phase etc || fail
        '';
      })
    ]
  );
}
