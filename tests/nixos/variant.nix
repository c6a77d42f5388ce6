# Machines of `nixos-rebuild build-vm`: the list of false facts. Each machine is instantiated.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");
  evaluate = host: (import ./host.nix { inherit nixpkgs; } [ host ]).config;

  # By name: a host, and facts of its machine.
  hosts = {
    plain = {
      host = ./hosts/plain.nix;
      facts = vm: {
        root = isTmpfs vm;
        store = isDisk "/persist" vm;
        # A password file would win over the password.
        password = vm.users.users.ada.password == "try" && vm.users.users.ada.hashedPasswordFile == null;
      };
    };
    simple = {
      host = {
        imports = [ ./hosts/simple.nix ];
        imp-mount.root.size = "8G";
        fileSystems."/data" = {
          device = "/mnt/disk*";
          fsType = "fuse.mergerfs";
        };
        fileSystems."/scratch".fsType = "tmpfs";
        environment.persistence."/persist".directories = [ "/data/films" ];
      };
      facts = vm: {
        root = isTmpfs vm && lib.elem "size=8G" vm.fileSystems."/".options;
        store = isDisk "/persist" vm && vm.fileSystems."/persist".neededForBoot;
        late = isDisk "/data" vm && !vm.fileSystems."/data".neededForBoot;
        scratch = vm.fileSystems."/scratch".fsType == "tmpfs";
        # The machine has its host's Nix store.
        nix = !lib.any (it: it.target == "/nix") vm.imp-mount.entries;
        entries = lib.any (it: it.target == "/var/log") vm.imp-mount.entries;
        phases = map (fs: fs.mountPoint) vm.imp-mount.plan.later == [ "/data" ];
        # systemd refuses more than one command in a service of another type.
        look = vm.systemd.services.imp-mount-look.serviceConfig.Type == "oneshot";
      };
    };
    # A configuration for nix-community/impermanence, with other stores.
    drop-in = {
      host = ./hosts/drop-in.nix;
      facts = vm: {
        root = isTmpfs vm;
        stores = isDisk "/persist" vm && isDisk "/persist/named" vm;
        off = !vm.fileSystems ? "/nowhere";
      };
    };
    # The machine's own disk is converted.
    convert = {
      host = ./hosts/convert.nix;
      facts = vm: {
        root = vm.fileSystems."/".fsType == "ext4";
        store = !vm.fileSystems ? "/persist";
        early = isDisk "/srv/fast" vm && vm.fileSystems."/srv/fast".neededForBoot;
      };
    };
    # The machine's own disk is left out.
    on-store = {
      host = ./hosts/on-store.nix;
      facts = vm: {
        root = !vm.fileSystems ? "/" && vm.imp-mount.manifest.root.on == "/persist";
        store = isDisk "/persist" vm && vm.fileSystems."/persist".neededForBoot;
        old = vm.systemd.services ? imp-mount-save;
      };
    };
    # The host's root is a disk, and the host's own script empties the disk.
    disk = {
      host = {
        imports = [ ./hosts/store.nix ];
        boot.loader.grub.enable = false;
        fileSystems."/" = {
          device = "/dev/disk/by-label/root";
          fsType = "btrfs";
        };
        environment.persistence."/persist".directories = [ "/var/lib/nixos" ];
      };
      facts = vm: {
        root = vm.fileSystems."/".fsType == "ext4";
        store = isDisk "/persist" vm;
      };
    };
    # Without persistent paths the machine is unchanged.
    nothing = {
      host = ./hosts/nothing.nix;
      facts = vm: {
        root = vm.fileSystems."/".fsType == "ext4";
        drives = lib.length vm.virtualisation.qemu.drives == 1;
        units = !vm.systemd.services ? imp-mount-look;
      };
    };
  };
  isTmpfs = vm: vm.fileSystems."/".fsType == "tmpfs";
  # A disk of the machine, known by its serial number.
  isDisk =
    path: vm:
    let
      fs = vm.fileSystems.${path};
      serials = map (drive: drive.deviceExtraOpts.serial or null) vm.virtualisation.qemu.drives;
    in
    fs.fsType == "ext4"
    && fs.autoFormat
    && lib.any (
      serial:
      serial != null && lib.stringLength serial <= 20 && fs.device == "/dev/disk/by-id/virtio-${serial}"
    ) serials;

  wrong =
    name:
    { host, facts }:
    let
      config = evaluate host;
      vm = config.virtualisation.vmVariant;
      refused = map (it: it.message) (lib.filter (it: !it.assertion) vm.assertions);
      all = facts vm // {
        instantiated = lib.isString config.system.build.vm.drvPath;
      };
    in
    if refused != [ ] then
      map (it: "${name}: refused: ${it}") refused
    else
      map (fact: "${name}: ${fact}") (lib.attrNames (lib.filterAttrs (_: is: !is) all));
in
lib.concatLists (lib.mapAttrsToList wrong hosts)
