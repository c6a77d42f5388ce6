# A nixpkgs tree, as what ../../flake.nix has as its input, without the copy that a flake's input is.
tree:
let
  lib = import (tree + "/lib");

  # A slim tree comes without the list that programs in Haskell are built from: ShellCheck, against which NixOS's own scripts are
  # held, Pandoc, which makes manuals, and nixfmt.
  isWhole = builtins.pathExists (tree + "/pkgs/development/haskell-modules/hackage-packages.nix");
  noHaskell =
    final: _:
    let
      nothing = final.writeScriptBin "nothing" "" // {
        compiler.bootstrapAvailable = false;
      };
    in
    lib.genAttrs [ "nixfmt" "pandoc" "shellcheck" "shellcheck-minimal" ] (_: nothing);
  overlays = lib.optional (!isWhole) noHaskell;
in
{
  inherit lib isWhole overlays;
  legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
    system: import tree { inherit system overlays; }
  );
}
