# The host as a virtual machine (`nixos-rebuild build-vm`, tests with qemu-vm.nix): stores and other file systems become disks beside
# the image of the root, and last as long as the image.
{
  config,
  lib,
  options,
  utils,
  ...
}:
let
  cfg = config.imp-mount;
  paths = import ../paths.nix;
  inherit (cfg.vm) host;
  isVm = options ? virtualisation.useDefaultFilesystems;
  vm = config.virtualisation;
  # A layout chosen by the user stays unchanged.
  isOurs = cfg.enable && vm.useDefaultFilesystems;

  isInMemory =
    fs:
    lib.elem fs.fsType [
      "tmpfs"
      "ramfs"
    ];
  # File systems on top of a file system that the machine does not have.
  isDerived = fs: fs.fsType == "overlay" || lib.elem "bind" fs.options || lib.elem "rbind" fs.options;

  # Without a definition of the root on the host, this module's root.
  rootIsOnStore = cfg.convert == null && cfg.plan.onStore;
  rootIsTmpfs =
    cfg.convert == null
    && !cfg.plan.onStore
    && (if host ? "/" then isInMemory host."/" else cfg.plan.makesRoot);

  # File systems from qemu-vm.nix, or unneeded without a boot loader.
  isGiven =
    path:
    path == "/"
    || lib.any (above: paths.isIn above path) [
      "/boot"
      "/nix"
      config.boot.loader.efi.efiSysMountPoint
    ];
  stores = lib.filter (path: path != cfg.convert) cfg.plan.storePaths;
  others = lib.filterAttrs (path: fs: !isGiven path && !isDerived fs && !lib.elem path stores) host;
  onDisks = stores ++ lib.attrNames (lib.filterAttrs (_: fs: !isInMemory fs) others);

  disks = map (path: {
    inherit path;
    # At most 20 bytes, so no path.
    serial = "imp-${builtins.substring 0 16 (builtins.hashString "sha256" path)}";
    # Beside the root's image, or in the directory of this run where there is none: HOST.qcow2-persist.
    image = ''"''${NIX_DISK_IMAGE:-$PWD/disk}"${lib.escapeShellArg "-${utils.escapeSystemdPath path}"}'';
  }) onDisks;
  # QEMU's command line is a shell's.
  drive = disk: {
    file = ''"$(test -e ${disk.image} || ${vm.qemu.package}/bin/qemu-img create -q -f qcow2 ${disk.image} ${toString cfg.vm.diskSize}M; echo ${disk.image})"'';
    driveExtraOpts.format = "qcow2";
    driveExtraOpts.werror = "report";
    deviceExtraOpts.serial = disk.serial;
  };
  # Weaker than a test's definition of the same file system.
  fileSystem = disk: {
    device = lib.mkDefault "/dev/disk/by-id/virtio-${disk.serial}";
    fsType = lib.mkDefault "ext4";
    autoFormat = lib.mkDefault true;
    neededForBoot = lib.mkDefault (lib.elem disk.path stores || host.${disk.path}.neededForBoot);
  };
in
{
  options.imp-mount.vm = {
    host = lib.mkOption {
      type = lib.types.attrsOf lib.types.raw;
      default = { };
      internal = true;
      description = "The file systems of the host of this virtual machine.";
    };
    hasNix = lib.mkOption {
      type = lib.types.bool;
      default = isVm && (vm.mountHostNixStore || vm.useNixStoreImage);
      defaultText = lib.literalMD "whether it has the Nix store of its host, so that no entry brings one";
      internal = true;
      readOnly = true;
      description = "True in a virtual machine that has its host's Nix store.";
    };
    diskSize = lib.mkOption {
      type = lib.types.ints.positive;
      default = 4096;
      description = ''
        Size in MiB of each disk of the virtual machine in place of a store or another file system (`nixos-rebuild build-vm`).
        Its image grows with its files.
      '';
    };
  };

  config =
    lib.optionalAttrs (options ? virtualisation.vmVariant && !isVm) {
      virtualisation =
        let
          variant.imp-mount.vm.host = lib.mapAttrs (_: fs: {
            inherit (fs)
              device
              fsType
              options
              neededForBoot
              ;
          }) config.fileSystems;
        in
        {
          vmVariant = variant;
          vmVariantWithBootLoader = variant;
        };
    }
    // lib.optionalAttrs isVm {
      virtualisation = lib.mkIf isOurs {
        fileSystems = lib.mkMerge [
          (lib.mkIf rootIsTmpfs {
            # The machine's own says ext4; a test may say more.
            "/" = {
              device = lib.mkOverride 60 "none";
              fsType = lib.mkOverride 60 "tmpfs";
              options = cfg.plan.rootOptions;
            };
          })
          # The machine's own would be in its place.
          (lib.mkIf (rootIsOnStore && !host ? "/") { "/".enable = lib.mkOverride 60 false; })
          (lib.listToAttrs (map (disk: lib.nameValuePair disk.path (fileSystem disk)) disks))
          (lib.mapAttrs (_: fs: {
            fsType = lib.mkDefault fs.fsType;
            options = lib.mkDefault fs.options;
            neededForBoot = lib.mkDefault fs.neededForBoot;
          }) (lib.filterAttrs (_: isInMemory) others))
        ];
        qemu.drives = map drive disks;
      };
      # The last lines on the console.
      systemd.services.imp-mount-look = lib.mkIf isOurs {
        description = "Show What Persists";
        wantedBy = [ "multi-user.target" ];
        after = [ "multi-user.target" ];
        serviceConfig = {
          # Of all types only this one may have more than one command.
          Type = "oneshot";
          StandardOutput = "journal+console";
          # Exit status 1: a problem was found.
          ExecStart = map (command: "-${cfg.package}/bin/${command}") [
            "imp-mount --check"
            "impctl lost"
          ];
        };
      };
    };
}
