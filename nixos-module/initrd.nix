# The initrd: the static binary, the manifest and the units of ../initrd.
{
  config,
  lib,
  utils,
  ...
}:
let
  cfg = config.imp-mount;
  inherit (cfg) plan;
  paths = import ./paths.nix;
  binary = "${cfg.package.initrd}/bin/imp-mount";

  inSysroot = path: if path == "/" then "/sysroot" else "/sysroot${path}";
  mountUnit = fs: "${utils.escapeSystemdPath (inSysroot fs.mountPoint)}.mount";
  line = key: values: lib.optionalString (values != [ ]) "${key}=${lib.concatStringsSep " " values}\n";
  places = stores: map (store: paths.quote (inSysroot store.path)) stores;

  # What the unit file leaves to whoever installs it: the stores come first, and when the root itself is replaced, all other
  # file systems come after.
  order =
    let
      replacesRoot = cfg.convert != null || plan.buildsRoot;
      # What is converted has no mount of its own.
      mounted = lib.partition (store: store.required) (
        lib.filter (store: store.path != cfg.convert) plan.stores
      );
      holdsStore = fs: lib.any (store: paths.isIn fs.mountPoint store.path) plan.stores;
      others = lib.filter (
        fs: fs.mountPoint != "/" && utils.fsNeededForBoot fs && !holdsStore fs
      ) (lib.attrValues config.fileSystems);
    in
    line "RequiresMountsFor" (places mounted.right)
    + line "WantsMountsFor" (places mounted.wrong)
    + lib.optionalString replacesRoot (line "Before" (map mountUnit others));
in
{
  config = lib.mkIf (cfg.active && config.boot.initrd.enable) (
    lib.mkMerge [
      (lib.mkIf config.boot.initrd.systemd.enable {
        boot.initrd.systemd = {
          storePaths = [ binary ];
          extraBin.imp-mount = binary;
          contents."/etc/imp-mount/manifest".source = cfg.compiled;
          units."imp-mount.service" = {
            text = lib.readFile ../initrd/imp-mount.service;
            requiredBy = [ "initrd-switch-root.service" ];
          };
          units."imp-mount-early.service" = lib.mkIf plan.early {
            text = lib.readFile ../initrd/imp-mount-early.service + "\n[Unit]\n" + order;
            requiredBy = [ "initrd-fs.target" ];
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
