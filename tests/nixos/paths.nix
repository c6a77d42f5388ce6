# The module's path functions: the list of wrong results. Needs only builtins.
let
  paths = import ../../nixos-module/paths.nix;
  cases = [
    [
      (paths.join [
        "/home/ada/"
        "//x/./y/"
      ])
      "/home/ada/x/y"
    ]
    [
      (paths.join [ "var/lib" ])
      "/var/lib"
    ]
    [
      (paths.join [ "/" ])
      "/"
    ]
    [
      (paths.join [ "/a/../b c" ])
      "/a/../b c"
    ]
    [
      (paths.ancestors "/a/b/c")
      [
        "/a"
        "/a/b"
      ]
    ]
    [
      (paths.ancestors "/a")
      [ ]
    ]
    [
      (paths.ancestors "/")
      [ ]
    ]
    [
      (map (paths.isIn "/a") [
        "/a"
        "/a/b"
        "/ab"
        "/"
      ])
      [
        true
        true
        false
        false
      ]
    ]
    [
      (paths.isIn "/" "/a")
      true
    ]
    [
      (paths.place "${builtins.storeDir}/0123-source/hosts/plex.nix")
      "hosts/plex.nix"
    ]
    [
      (paths.place "/etc/nixos/plex.nix")
      "/etc/nixos/plex.nix"
    ]
    [
      (paths.place "<unknown-file>")
      "<unknown-file>"
    ]
    [
      (paths.quote ''/50% "of" it'')
      ''"/50%% \"of\" it"''
    ]
  ];
in
builtins.filter (case: builtins.elemAt case 0 != builtins.elemAt case 1) cases
