# The units of hosts that decide the time of the mounts, with NixOS's own, and the hosts' manifests.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");

  # Paths independent of nixpkgs: without hashes and versions.
  path = "${builtins.storeDir}/[a-z0-9]{32}-([a-zA-Z]+(-[a-zA-Z]+)*)(-[0-9][0-9.]*)?";
  plain =
    text:
    lib.concatMapStrings (part: if lib.isList part then "/nix/store/${lib.head part}" else part) (
      builtins.split path text
    );
  # NixOS gives every service some variables, which change with nixpkgs.
  isKept = line: !lib.hasPrefix "Environment=" line && !lib.hasPrefix "X-Restart-Triggers=" line;
  text =
    unit:
    lib.concatMapStrings (line: line + "\n") (
      lib.filter isKept (lib.splitString "\n" (lib.trim (plain unit.text)))
      ++ lib.optional (unit.overrideStrategy == "asDropin") "# drop-in"
      ++ lib.optional (unit.wantedBy != [ ]) "# wanted by ${toString unit.wantedBy}"
      ++ lib.optional (unit.requiredBy != [ ]) "# required by ${toString unit.requiredBy}"
    );
  units =
    names: all: lib.mapAttrs (_: text) (lib.filterAttrs (name: _: lib.any (it: it name) names) all);
  is = name: other: name == other;

  host =
    module:
    let
      inherit
        (import (nixpkgs + "/nixos/lib/eval-config.nix") {
          system = null;
          modules = [
            ../../../nixos-module
            ../audit/stand-ins.nix
            module
            {
              nixpkgs.hostPlatform = "x86_64-linux";
              system.stateVersion = "26.05";
              imp-mount.audit.level = "off";
            }
          ];
        })
        config
        ;
    in
    {
      # Without the places where things are said.
      manifest = lib.mapAttrs (
        _: value: if lib.isList value then map (it: removeAttrs it [ "from" ]) value else value
      ) config.imp-mount.manifest;
      initrd = units [
        (lib.hasPrefix "imp-mount")
        (lib.hasPrefix "initrd")
        (lib.hasPrefix "sysroot-")
        (lib.hasPrefix "systemd-tmpfiles-setup")
      ] config.boot.initrd.systemd.units;
      system = units [
        (lib.hasPrefix "imp-mount")
        (lib.hasPrefix "etc-")
        (is "local-fs.target")
        (is "suid-sgid-wrappers.service")
        (is "run-wrappers.mount")
        (is "sysinit-reactivation.target")
        (is "systemd-journal-flush.service")
        (is "systemd-machine-id-commit.service")
        (is "systemd-random-seed.service")
        (is "systemd-remount-fs.service")
        (is "systemd-sysusers.service")
        (is "systemd-tmpfiles-resetup.service")
        (is "userborn.service")
      ] (import ../drop-ins.nix { inherit lib config; } // config.systemd.units);
    };
in
lib.genAttrs [ "plain" "late" "userborn" ] (name: host (./. + "/${name}.nix"))
