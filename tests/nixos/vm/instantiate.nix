# Every VM test down to its derivation.
{ nixpkgs }:
let
  # A stripped tree may lack what ShellCheck is built from.
  noShellcheck = final: _: {
    shellcheck-minimal = final.writeScriptBin "shellcheck" "#!/bin/sh\nexit 0\n" // {
      compiler.bootstrapAvailable = false;
    };
    shellcheck = final.shellcheck-minimal;
  };
  pkgs = import nixpkgs {
    system = "x86_64-linux";
    overlays = [ noShellcheck ];
  };
in
builtins.mapAttrs (_: test: test.drvPath) (
  import ./. {
    inherit pkgs;
    homeManager = ../home-manager.nix;
  }
)
