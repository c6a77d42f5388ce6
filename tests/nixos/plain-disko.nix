# Differences between the plain example's disks by disko itself and by the stand-in here, as text. `disko` is its source. Each
# system is instantiated.
{ nixpkgs, disko }:
let
  lib = import (nixpkgs + "/lib");
  system =
    disk: disko:
    (import ./host.nix { inherit nixpkgs; } (import ./plain.nix { inherit disk disko; })).config;
  facts =
    config:
    lib.mapAttrs (_: it: [
      it.device
      it.fsType
      it.neededForBoot
      (lib.subtractLists [ "x-initrd.mount" ] it.options)
    ]) config.fileSystems
    // lib.mapAttrs' (
      name: it: lib.nameValuePair "luks ${name}" it.device
    ) config.boot.initrd.luks.devices;
  wrong =
    disk:
    let
      real = system disk (disko + "/module.nix");
      here = facts (system disk ./disko.nix);
      there = facts real;
      differs = name: here.${name} or null != there.${name} or null;
    in
    builtins.seq real.system.build.toplevel.drvPath (
      map (
        name:
        "${disk}: ${name}: ${
          builtins.toJSON [
            (here.${name} or null)
            (there.${name} or null)
          ]
        }"
      ) (lib.filter differs (lib.attrNames (here // there)))
    );
in
lib.concatMap wrong [
  "disko.nix"
  "disko-btrfs.nix"
  "disko-luks.nix"
]
