# Report on a host, as text: messages of NixOS, the manifest, the units, and lines of fstab.
{ nixpkgs, host }:
let
  lib = import (nixpkgs + "/lib");
  inherit
    (import ./host.nix { inherit nixpkgs; } [
      host
      {
        # Paths independent of nixpkgs.
        imp-mount.package = {
          type = "derivation";
          name = "imp-mount";
          outPath = "/package";
          initrd = {
            type = "derivation";
            name = "imp-mount-initrd";
            outPath = "/initrd-package";
          };
        };
      }
    ])
    config
    ;
  cfg = config.imp-mount;

  section = title: text: "# ${title}\n\n${lib.trim text}\n\n";
  lines = lib.concatMapStrings (line: line + "\n");

  # Of NixOS's own messages there may be others with every nixpkgs.
  ours =
    message:
    lib.any (word: lib.hasInfix word message) [
      "environment.persistence"
      "home.persistence"
      "imp-mount"
    ];
  # Which ids NixOS's own users lack changes with nixpkgs.
  isNixosName = line: builtins.match " +[a-z][a-z0-9-]*" line != null && lib.trim line != "without";
  withoutNames = text: lines (lib.filter (line: !isNixosName line) (lib.splitString "\n" text));
  bare = text: lib.replaceStrings [ "${toString ../..}/" ] [ "" ] text;

  manifest =
    let
      list =
        key:
        lib.optional (cfg.manifest ? ${key}) (
          ''"${key}": [''
          + lib.concatMapStringsSep "," (it: "\n  ${builtins.toJSON it}") cfg.manifest.${key}
          + "\n]"
        );
      rest = removeAttrs cfg.manifest [
        "stores"
        "parents"
        "entries"
      ];
      members =
        lib.mapAttrsToList (key: value: ''"${key}": ${builtins.toJSON value}'') rest
        ++ lib.concatMap list [
          "stores"
          "parents"
          "entries"
        ];
    in
    "{\n${lib.concatStringsSep ",\n" members}\n}";

  # NixOS gives every service some variables, which change with nixpkgs.
  text = unit: lib.filter (line: !lib.hasPrefix "Environment=" line) (lib.splitString "\n" unit.text);
  unit =
    where: name: unit:
    section "${where}: ${name}" (
      lines (
        text unit
        ++ lib.optional (unit.wantedBy != [ ]) "wanted by ${toString unit.wantedBy}"
        ++ lib.optional (unit.requiredBy != [ ]) "required by ${toString unit.requiredBy}"
      )
    );
  units =
    where: all:
    lib.concatStrings (
      lib.mapAttrsToList (unit where) (
        lib.filterAttrs (
          name: _:
          lib.any (start: lib.hasPrefix start name) [
            "imp-mount"
            "etc-machine"
            "systemd-machine-id"
          ]
        ) all
      )
    );
  failed = map (it: it.message) (lib.filter (it: !it.assertion) config.assertions);

  # The lines of an fstab without blanks and comments.
  fstab =
    title: text:
    section title (
      lines (lib.filter (line: line != "" && !lib.hasPrefix "#" line) (lib.splitString "\n" text))
    );
  ofSystem = config.environment.etc.fstab;
  hasInitrd = config.boot.initrd.enable && config.boot.initrd.systemd.enable;
in
rec {
  # Both, in one evaluation.
  host = { inherit report system; };

  # The units, by their file names.
  initrdUnits = lib.mapAttrs (_: unit: unit.text) (
    lib.filterAttrs (name: _: lib.hasPrefix "imp-mount" name) config.boot.initrd.systemd.units
  );
  systemUnits = lib.mapAttrs (_: unit: unit.text) (
    lib.filterAttrs (name: _: lib.hasPrefix "imp-mount" name) config.systemd.units
  );

  # The whole system, where nothing is refused.
  system = if failed == [ ] then config.system.build.toplevel.drvPath else null;

  # The whole report, for review and comparison.
  report =
    let
      # All options can be read, also removed ones.
      readable = builtins.deepSeq config.environment.persistence;
    in
    readable (
      bare (
        section "refused" (lines failed)
        + section "warnings" (withoutNames (lines (lib.filter ours config.warnings)))
        + lib.optionalString cfg.enable (
          section "manifest" manifest
          + lib.optionalString hasInitrd (units "initrd" config.boot.initrd.systemd.units)
          + units "system" (import ./drop-ins.nix { inherit lib config; } // config.systemd.units)
          + lib.optionalString hasInitrd (
            fstab "initrd: fstab" config.boot.initrd.systemd.managerEnvironment.SYSTEMD_SYSROOT_FSTAB.text
          )
          + fstab "fstab" (ofSystem.source.text or ofSystem.text)
          + section "etc" (
            lines (
              map (name: "${name} ${config.environment.etc.${name}.mode}") (
                lib.filter (
                  name:
                  lib.any (it: lib.hasPrefix it.target "/etc/${name}") cfg.entries || lib.hasPrefix "imp-mount" name
                ) (lib.attrNames config.environment.etc)
              )
            )
          )
          + section "others" (
            lines (
              lib.optional hasInitrd (
                "suppressed in the initrd: ${toString config.boot.initrd.systemd.suppressedUnits}\n"
                + "on its PATH: ${config.boot.initrd.systemd.extraBin.imp-mount}\n"
                + "in it: ${
                  toString (
                    lib.attrNames (
                      lib.filterAttrs (name: _: lib.hasInfix "imp-mount" name) config.boot.initrd.systemd.contents
                    )
                  )
                }"
              )
              ++ lib.optional (config.boot.initrd.enable && !hasInitrd) (
                "in the initrd's script: "
                + toString (
                  lib.filter (lib.hasInfix "imp-mount") (lib.splitString "\n" config.boot.initrd.postMountCommands)
                )
                + "\nin it: "
                + toString (lib.filter (lib.hasInfix "imp-mount") (lib.attrNames config.boot.initrd.extraFiles))
              )
              ++ [
                "on the system's PATH: ${
                  toString (lib.intersectLists [ cfg.package ] config.environment.systemPackages)
                }"
                "generators: ${toString (lib.attrNames config.systemd.generators)}"
                "activation: ${
                  toString (
                    lib.filter (name: config.system.activationScripts ? ${name}) [
                      "imp-mount"
                      "createPersistentStorageDirs"
                      "persist-files"
                    ]
                  )
                }"
              ]
            )
          )
        )
      )
    );
}
