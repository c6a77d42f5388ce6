# A nixpkgs tree, as what ../../flake.nix has as its input, without the copy that a flake's input is.
tree:
let
  lib = import (tree + "/lib");

  # A slim tree comes without the list that ShellCheck is built from; NixOS's own scripts are held against it.
  isWhole = builtins.pathExists (tree + "/pkgs/development/haskell-modules/hackage-packages.nix");
  noShellcheck = final: _: {
    shellcheck-minimal = final.writeScriptBin "shellcheck" "" // {
      compiler.bootstrapAvailable = false;
    };
    shellcheck = final.shellcheck-minimal;
  };
  overlays = lib.optional (!isWhole) noShellcheck;
in
{
  inherit lib isWhole overlays;
  legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
    system:
    import tree { inherit system overlays; }
  );
}
