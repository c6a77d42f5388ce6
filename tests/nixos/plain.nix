# Modules of the plain example host, from its own flake. `disk` is a file in place of its disko.nix, `disko` the module of disko.
{ disk, disko }:
let
  example = ../../nixos-module/examples/plain;
  outputs = (import (example + "/flake.nix")).outputs {
    nixpkgs.lib.nixosSystem = system: system.modules;
    disko.nixosModules = { inherit disko; };
    # Every test provides this module.
    imp-mount.nixosModules.default = { };
  };
  usual = example + "/disko.nix";
  modules = outputs.nixosConfigurations.host;
in
assert builtins.elem usual modules;
map (module: if module == usual then example + "/${disk}" else module) modules
