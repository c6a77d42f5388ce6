# A nixpkgs tree in the form of ../../flake.nix's input, without a flake's copy to the store.
tree:
let
  lib = import (tree + "/lib");

  # A slim tree has no list for builds of programs in Haskell: ShellCheck, a check of NixOS's own scripts, Pandoc, which makes
  # manuals, and nixfmt.
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
