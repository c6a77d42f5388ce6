# Values that options of imp-mount do not take, and values that they take: the list of wrong results.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");
  takes =
    definition:
    let
      inherit
        (lib.evalModules {
          specialArgs.pkgs = { };
          modules = [
            ../../nixos-module/options.nix
            {
              options.assertions = lib.mkOption { type = lib.types.raw; };
              config.imp-mount = definition;
            }
          ];
        })
        config
        ;
    in
    (builtins.tryEval (
      builtins.deepSeq [
        config.imp-mount.root
        config.imp-mount.convert
        config.imp-mount.oldRoots.store
      ] true
    )).success;
  root =
    key:
    map (value: {
      root.${key} = value;
    });
  right =
    root "size" [
      null
      "8G"
      "512m"
      "50%"
      "150%"
      "8589934592"
    ]
    ++ root "inodes" [
      "1M"
      "0"
      "4000000"
    ]
    ++ root "mode" [
      "755"
      "0755"
    ]
    ++ root "options" [
      [ "huge=within_size" ]
      [ "noatime" ]
    ]
    ++ root "on" [
      "/persist"
      /persist
    ]
    ++ [
      { convert = "/persist/"; }
      { oldRoots.store = /persist; }
    ];
  wrong =
    root "size" [
      8
      "8"
      "0"
      "0G"
      "8 GB"
      "8GB"
      "%"
      ""
    ]
    ++ root "inodes" [
      "1"
      "1T"
    ]
    ++ root "mode" [
      "999"
      "u+x"
      755
      ""
    ]
    ++ root "options" [
      [ "size=8G" ]
      [ "mode=0755" ]
      [ "ro" ]
      "noatime"
    ]
    ++ root "on" [
      true
      "persist"
    ]
    ++ [
      { root = "tmpfs"; }
      { convert = true; }
      { convert = "persist"; }
    ];
in
{
  refused = lib.filter (it: !takes it) right;
  taken = lib.filter takes wrong;
}
