# Outputs of the flake: the list of missing outputs, and of those that are no modules. Needs only builtins.
let
  flake = import ../../flake.nix;
  outputs = flake.outputs {
    self = outputs;
    # Built outputs are for `nix flake check`.
    nixpkgs.lib = throw "no module needs nixpkgs to be found";
  };
  named = {
    "nixosModules.default" = outputs.nixosModules.default;
    "nixosModules.impermanence" = outputs.nixosModules.impermanence;
    "nixosModules.preservation" = outputs.nixosModules.preservation;
    "nixosModules.home-manager.impermanence" = outputs.nixosModules.home-manager.impermanence;
    "nixosModule" = outputs.nixosModule;
    "homeManagerModules.default" = outputs.homeManagerModules.default;
    "homeManagerModules.impermanence" = outputs.homeManagerModules.impermanence;
  };
  isModule = module: builtins.isFunction (import module);
in
builtins.filter (name: !isModule named.${name}) (builtins.attrNames named)
