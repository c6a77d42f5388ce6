# In place of what takes long to evaluate, or is not in every nixpkgs, and does not matter here.
{ lib, ... }:
{
  nixpkgs.overlays = [
    (
      final: _:
      let
        # Programs in Haskell.
        nothing = final.writeScriptBin "nothing" "" // {
          compiler.bootstrapAvailable = false;
        };
      in
      {
        pandoc = nothing;
        shellcheck = nothing;
        shellcheck-minimal = nothing;
      }
    )
  ];
  imp-mount.package = lib.mkDefault {
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
