# Systems without this project's module: a root in memory, and one module more.
{ nixpkgs }:
let
  evaluate =
    module:
    import (nixpkgs + "/nixos/lib/eval-config.nix") {
      system = null;
      modules = [
        ./common.nix
        module
        {
          system.stateVersion = "26.05";
          fileSystems."/" = {
            device = "none";
            fsType = "tmpfs";
          };
          documentation.enable = false;
          boot.loader.grub.enable = false;
          nixpkgs.pkgs = pkgs;
          # A service with certificates requires these.
          security.acme.acceptTerms = true;
          security.acme.defaults.email = "ada@example.org";
        }
      ];
    };
  pkgs = import nixpkgs {
    system = "x86_64-linux";
    config = {
      allowUnfree = true;
      allowBroken = true;
      allowUnsupportedSystem = true;
      allowInsecurePredicate = _: true;
    };
    overlays = import ./overlays.nix;
  };
in
{
  inherit evaluate;
}
